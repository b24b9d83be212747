"""Development certificates are what TLS clients accept, and are kept where they are good."""

from __future__ import annotations

import datetime
import socket
import ssl
import subprocess
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509

from gateway.access import certificates
from gateway.access.certificates import authority, server_tls
from gateway.errors import InvalidSetting
from gateway.process.start import module_command
from gateway.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path)


def handshake(folder: Path, host: str, client: ssl.SSLContext) -> None:
    """One TLS handshake with the server's certificate. Raises what either side raises."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "server.pem", folder / "server.key")
    here, there = socket.socketpair()
    there.settimeout(5)

    def serve() -> None:
        try:
            server.wrap_socket(there, server_side=True).close()
        except ssl.SSLError:
            there.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        client.wrap_socket(here, server_hostname=host).close()
    finally:
        here.close()
        thread.join()
        there.close()


@pytest.mark.parametrize("host", ["api.example.com", "localhost", "127.0.0.1"])
def test_a_strict_client_that_trusts_the_ca_accepts_the_server(settings: Settings, host: str) -> None:
    server_tls(settings)
    folder = settings.data_dir / "tls"
    client = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    handshake(folder, host, client)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(folder, "elsewhere.example.com", client)


def test_certificates_are_kept_and_keys_are_private(settings: Settings) -> None:
    first = server_tls(settings)
    assert server_tls(settings) == first
    for name in ("ca.key", "server.key"):
        assert (settings.data_dir / "tls" / name).stat().st_mode & 0o777 == 0o600


def test_a_new_server_certificate_keeps_the_ca(settings: Settings) -> None:
    first = server_tls(settings)
    ca = (settings.data_dir / "tls" / "ca.pem").read_bytes()
    with authority(settings) as found:
        found.issue("server", "x", names=["example.org", "10.0.0.1"])
    second = server_tls(settings)
    assert second.certificate != first.certificate
    assert (settings.data_dir / "tls" / "ca.pem").read_bytes() == ca
    names = x509.load_pem_x509_certificate(second.certificate).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert names.value.get_values_for_type(x509.DNSName) == ["example.org"]


def test_a_certificate_that_ends_soon_is_made_anew(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificates, "CERTIFICATE_DAYS", certificates.RENEW_DAYS - 1)
    first = server_tls(settings)
    monkeypatch.undo()
    second = x509.load_pem_x509_certificate(server_tls(settings).certificate)
    assert second != x509.load_pem_x509_certificate(first.certificate)
    left = second.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    assert left > datetime.timedelta(days=certificates.RENEW_DAYS)


def test_what_is_missing_or_broken_is_named(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting, match="HEADRACE_TLS_KEY"):
        server_tls(Settings(data_dir=tmp_path, tls_cert="x"))
    with pytest.raises(InvalidSetting, match="HEADRACE_TLS_CERT is 'nowhere"):
        server_tls(Settings(data_dir=tmp_path, tls_cert="nowhere.pem", tls_key="nowhere.key"))
    server_tls(settings)
    mixed = Settings(data_dir=tmp_path, tls_cert=f"{tmp_path}/tls/server.pem", tls_key=f"{tmp_path}/tls/ca.key")
    with pytest.raises(InvalidSetting, match="does not belong"):
        server_tls(mixed)
    with pytest.raises(InvalidSetting, match="must be PEM files"):
        server_tls(replace(mixed, tls_key=__file__))
    (tmp_path / "tls" / "ca.key").write_text("nonsense")
    with pytest.raises(InvalidSetting, match="Remove the folder"):
        server_tls(settings)


def test_the_command_makes_server_and_client_certificates(settings: Settings) -> None:
    def cert(*args: str) -> subprocess.CompletedProcess[str]:
        command = module_command("cli.main", "cert", *args)
        return subprocess.run(command, env=settings.environ(), capture_output=True, text=True, check=False)

    made = cert("--name", "gateway.example.org")
    assert made.returncode == 0, made.stderr
    folder = settings.data_dir / "tls"
    client = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    handshake(folder, "gateway.example.org", client)
    assert cert("--client", "billing").returncode == 0
    client.load_cert_chain(folder / "client-billing.pem", folder / "client-billing.key")
    assert cert("--client", "../x").returncode == 2
