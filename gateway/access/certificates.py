"""A development CA and the certificates that it signs, in `{data_dir}/tls`; HEADRACE_TLS_* names better ones.

Clients trust `ca.pem`. Renewing the server's certificate keeps the CA, so clients need no new file.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import ipaddress
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gateway.errors import InvalidSetting
from gateway.process.file_locks import locked
from gateway.process.start import private_folder
from gateway.settings import Settings

#: Names in the server's certificate. The first is the one that the customer's document uses.
NAMES = ("api.example.com", "localhost", "127.0.0.1", "::1")
#: The name in the listener's certificate. Machines that join trust the CA alone, whatever the address is they use.
LISTENER = "listener.headrace.internal"
CA_DAYS, CERTIFICATE_DAYS = 3650, 397
#: A certificate that expires sooner than this is renewed at the next start.
RENEW_DAYS = 30


@dataclass(frozen=True)
class ServerTls:
    """What a server presents, as PEM; `client_ca` is set if clients must have a certificate of that CA."""

    certificate: bytes
    key: bytes
    client_ca: bytes | None


@dataclass(frozen=True)
class Authority:
    """The development CA of one folder."""

    folder: Path
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def issue(self, name: str, common_name: str, *, names: Sequence[str] = ()) -> Path:
        """Write `{name}.pem`, `{name}.key`: a server's certificate for `names`, else a client's; returns the first."""
        key = ec.generate_private_key(ec.SECP256R1())
        write(self.folder / f"{name}.key", key_pem(key), private=True)
        path = self.folder / f"{name}.pem"
        write(path, self._signed(common_name, key.public_key(), names=names))
        return path

    @property
    def fingerprint(self) -> str:
        """Of the CA's certificate, in hex: whoever knows it knows the CA."""
        return self.certificate.fingerprint(hashes.SHA256()).hex()

    @property
    def pem(self) -> bytes:
        """The CA's certificate."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def sign(self, request: x509.CertificateSigningRequest, common_name: str) -> bytes:
        """A client's certificate, as PEM, for the key of a request. Nothing else in the request counts.

        It is valid as long as the CA: whoever lets clients in knows which of them may still come.

        Raises: ValueError: the key is of another kind.
        """
        key = request.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise ValueError("the request must have an elliptic curve key")
        return self._signed(common_name, key, until=self.certificate.not_valid_after_utc)

    def _signed(
        self,
        common_name: str,
        key: ec.EllipticCurvePublicKey,
        *,
        names: Sequence[str] = (),
        until: datetime.datetime | None = None,
    ) -> bytes:
        usage = ExtendedKeyUsageOID.SERVER_AUTH if names else ExtendedKeyUsageOID.CLIENT_AUTH
        until = until or datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=CERTIFICATE_DAYS)
        builder = _builder(common_name, self.certificate.subject, key, until=until)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName([_general(n) for n in names]), critical=False)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@contextlib.contextmanager
def authority(settings: Settings) -> Iterator[Authority]:
    """The development CA, which is made if there is none. One process at a time has it.

    Raises:
        InvalidSetting: its files can't be read or written.
    """
    folder = settings.tls_dir
    try:
        private_folder(folder)
        with locked(folder / ".lock"):
            yield _load(folder) or _create(folder)
    except (OSError, ValueError) as error:
        raise InvalidSetting(
            f"The development CA in {folder} can't be used: {error}. Remove the folder to make a new one, "
            "or set HEADRACE_TLS_CERT and HEADRACE_TLS_KEY."
        ) from error


def server_tls(settings: Settings) -> ServerTls:
    """The server's certificate: the configured one, else the development one, which is made if necessary.

    Raises:
        InvalidSetting: a file can't be read, or only one of two that belong together is set.
    """
    if bool(settings.tls_cert) != bool(settings.tls_key):
        raise InvalidSetting("HEADRACE_TLS_CERT and HEADRACE_TLS_KEY belong together; set both, or neither.")
    client_ca = _read("HEADRACE_TLS_CLIENT_CA", settings.tls_client_ca) if settings.tls_client_ca else None
    if settings.tls_cert:
        certificate, key = _read("HEADRACE_TLS_CERT", settings.tls_cert), _read("HEADRACE_TLS_KEY", settings.tls_key)
        _require_pair(certificate, key)
        return ServerTls(certificate, key, client_ca)
    path = settings.tls_dir / "server.pem"
    with authority(settings) as ca:
        if not _is_good(path, ca):
            ca.issue("server", NAMES[0], names=NAMES)
        return ServerTls(path.read_bytes(), path.with_suffix(".key").read_bytes(), client_ca)


def listener_certificate(settings: Settings) -> Path:
    """The development certificate of the listener for other machines, renewed if necessary; its key lies beside it.

    Raises: InvalidSetting.
    """
    path = settings.tls_dir / "listener.pem"
    with authority(settings) as ca:
        if not _is_good(path, ca):
            ca.issue("listener", LISTENER, names=(LISTENER,))
    return path


def key_digest(certificate: bytes) -> str:
    """The SHA-256 of the public key in a certificate (DER), in hex. It outlives the renewal of the certificate."""
    return digest_of(x509.load_der_x509_certificate(certificate).public_key())


def digest_of(key: CertificatePublicKeyTypes) -> str:
    """The same of a public key."""
    spki = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(spki).hexdigest()


def _require_pair(certificate: bytes, key: bytes) -> None:
    """Raises: InvalidSetting if they are no PEM files, or do not belong together."""
    try:
        theirs = serialization.load_pem_private_key(key, password=None).public_key()
        fits = x509.load_pem_x509_certificate(certificate).public_key() == theirs
    except (ValueError, TypeError) as error:
        raise InvalidSetting(
            f"HEADRACE_TLS_CERT and HEADRACE_TLS_KEY must be PEM files, the key without a password: {error}."
        ) from error
    if not fits:
        raise InvalidSetting("The key in HEADRACE_TLS_KEY does not belong to the certificate in HEADRACE_TLS_CERT.")


def _is_good(path: Path, ca: Authority) -> bool:
    """Whether there is a certificate of this CA that does not expire soon."""
    if not path.exists() or not path.with_suffix(".key").exists():
        return False
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    left = certificate.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    return certificate.issuer == ca.certificate.subject and left > datetime.timedelta(days=RENEW_DAYS)


def _load(folder: Path) -> Authority | None:
    if not (folder / "ca.pem").exists():
        return None
    key = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("ca.key is not an elliptic curve key")
    return Authority(folder, x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes()), key)


def _create(folder: Path) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    # The serial number in the name keeps two CAs of one machine apart.
    name = f"Headrace development CA {x509.random_serial_number() & 0xFFFFFFFF:08x}"
    until = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=CA_DAYS)
    builder = _builder(name, None, key.public_key(), until=until)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_ca_usage(), critical=True)
    certificate = builder.sign(key, hashes.SHA256())
    write(folder / "ca.key", key_pem(key), private=True)
    write(folder / "ca.pem", certificate.public_bytes(serialization.Encoding.PEM))
    return Authority(folder, certificate, key)


def _builder(
    common_name: str, issuer: x509.Name | None, key: ec.EllipticCurvePublicKey, *, until: datetime.datetime
) -> x509.CertificateBuilder:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(subject_name=subject, issuer_name=issuer or subject, public_key=key)
    builder = builder.serial_number(x509.random_serial_number())
    # A client's clock may be a little behind.
    builder = builder.not_valid_before(now - datetime.timedelta(hours=1))
    builder = builder.not_valid_after(until)
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)


def _ca_usage() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A private key as PEM, without a password."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _read(variable: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InvalidSetting(f"{variable} is {path!r}, which can't be read: {error.strerror}.") from error


def write(path: Path, content: bytes, *, private: bool = False) -> None:
    """Replace a file atomically, so that no process reads half of it."""
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o644), "wb") as stream:
        stream.write(content)
    draft.replace(path)
