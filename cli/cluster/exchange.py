"""What a machine does to join a gateway: it makes sure whose listener that is, shows its token, and keeps what it gets.

The token names the gateway's CA by its fingerprint, so it is sent to no one else. The machine's key is made here, and
never leaves it.
"""

from __future__ import annotations

import hashlib
import json
import re
import ssl
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote, urlencode, urlsplit

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from cli.client import message_of
from gateway.access.certificates import key_pem, write
from gateway.cluster.join_address import PORT
from gateway.errors import InvalidSetting, Unavailable
from gateway.joined import FOLDER, joined_path
from gateway.process.start import private_folder
from gateway.process.version import own_version
from gateway.settings import Settings
from gateway.store.redis_url import with_options
from schemas.cluster.joining import JoinAnswer, TokenParts

#: Seconds to wait for an answer; and how far the clocks of both may be apart.
TIMEOUT_S, SKEW_S = 15.0, 300.0
CA, CERTIFICATE, KEY = "ca.pem", "node.pem", "node.key"


@dataclass(frozen=True)
class Gateway:
    """The listener of a gateway."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Gateway:
        """`https://HOST:PORT`, or without `https://` and port. Raises: InvalidSetting."""
        try:
            parts = urlsplit(text if "://" in text else f"https://{text}")
            host, port = parts.hostname, PORT if parts.port is None else parts.port
        except ValueError:
            parts, host, port = urlsplit(""), None, 0
        rest = parts.path.strip("/") or parts.query or parts.username
        if parts.scheme != "https" or not re.fullmatch(r"[\w.:-]+", host or "", re.ASCII) or not port or rest:
            raise InvalidSetting(f"The gateway's address is {text!r:.200}; it must be https://HOST:PORT.")
        return cls(str(host), port)

    @property
    def url(self) -> str:
        """With which it is reached."""
        return f"https://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


def join(settings: Settings, gateway: Gateway, token: TokenParts | None, *, node: str) -> JoinAnswer:
    """Get a certificate for this machine's key. Without a token it comes with the certificate that it has.

    Raises:
        InvalidSetting: the gateway is another one than the token's, or refuses; the clocks are too far apart.
        Unavailable: it does not answer.
    """
    folder = private_folder(settings.data_dir / FOLDER)
    if token:
        write(folder / CA, _trusted_ca(gateway, token))
    context = _pinned(folder / CA)
    if not token:
        context.load_cert_chain(folder / CERTIFICATE, folder / KEY)
    body = {
        "node": node,
        "version": own_version(),
        "request": _certificate_request(folder / KEY, node),
        "token": str(token or ""),
    }
    response = _ask(gateway, context, "POST", "/join", json=body)
    if not response.is_success:
        raise InvalidSetting(f"{gateway.url} does not let this machine in: {message_of(response)}")
    answer = JoinAnswer(**response.json()["data"])
    write(folder / CERTIFICATE, answer.certificate.encode())
    return answer


def keep(settings: Settings, gateway: Gateway, answer: JoinAnswer, **own: str) -> None:
    """Write down what the gateway gave, and `own` settings of this machine, as the settings of this data folder."""
    folder = (settings.data_dir / FOLDER).absolute()
    if answer.redis_url:
        files: dict[str, str] = {}
        for name, content in answer.redis_files.items():
            files[name] = str(folder / f"redis.{name}.pem")
            write(Path(files[name]), content.encode(), private=True)
        redis_url = with_options(answer.redis_url, files)
    else:
        redis_url = _through(gateway, answer, folder)
    values = {**answer.settings, "redis_url": redis_url, "node": answer.node, **own}
    text = json.dumps({"gateway": gateway.url, "settings": values}, indent=2)
    write(joined_path(settings.data_dir), text.encode(), private=True)


def _through(gateway: Gateway, answer: JoinAnswer, folder: Path) -> str:
    """The URL of Redis behind the listener. The name in its certificate is not compared with the address: the CA has
    signed one server alone, and the address may be any that leads there.
    """
    who = ":".join(quote(text, safe="") for text in (answer.username, answer.password)).rstrip(":")
    files = {"ssl_ca_certs": folder / CA, "ssl_certfile": folder / CERTIFICATE, "ssl_keyfile": folder / KEY}
    options = urlencode({**files, "ssl_check_hostname": "false"}, safe="/")
    return f"rediss://{f'{who}@' if who else ''}{gateway.url.removeprefix('https://')}/{answer.db}?{options}"


def _trusted_ca(gateway: Gateway, token: TokenParts) -> bytes:
    """The CA that the token names, from the gateway. Raises: InvalidSetting, Unavailable."""
    anyone = ssl.create_default_context()
    anyone.check_hostname, anyone.verify_mode = False, ssl.CERT_NONE
    response = _ask(gateway, anyone, "GET", "/ca.pem")
    try:
        response.raise_for_status()
        pem = response.content
        found = hashlib.sha256(x509.load_pem_x509_certificate(pem).public_bytes(serialization.Encoding.DER)).hexdigest()
    except (httpx.HTTPStatusError, ValueError):
        raise InvalidSetting(
            f"{gateway.url} is not where machines join, though it speaks HTTPS. 'headrace token create' shows the URL."
        ) from None
    if found != token.ca_fingerprint:
        raise InvalidSetting(
            f"The gateway at {gateway.url} is another one than the token is for: its CA has the fingerprint "
            f"{found[:16]}…, not {token.ca_fingerprint[:16]}…. The token was not sent."
        )
    _require_same_time(gateway, response)
    return pem


def _require_same_time(gateway: Gateway, response: httpx.Response) -> None:
    """Raises: InvalidSetting if the clocks of both machines are too far apart for certificates and leases."""
    try:
        theirs = parsedate_to_datetime(response.headers["Date"]).timestamp()
    except (KeyError, ValueError):
        return
    apart_s = time.time() - theirs
    if abs(apart_s) > SKEW_S:
        how = f"{abs(apart_s):.0f} s {'ahead of' if apart_s > 0 else 'behind'}"
        raise InvalidSetting(f"This machine's clock is {how} that of {gateway.url}. Let NTP set both, then join again.")


def _pinned(ca: Path) -> ssl.SSLContext:
    """Trusts this CA alone, which has signed one server; under whatever name that is reached."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(ca)
    return context


def _ask(gateway: Gateway, context: ssl.SSLContext, method: str, path: str, **kwargs: Any) -> httpx.Response:
    """Raises: InvalidSetting, Unavailable."""
    try:
        with httpx.Client(base_url=gateway.url, verify=context, timeout=TIMEOUT_S, trust_env=False) as client:
            return client.request(method, path, **kwargs)
    except httpx.TransportError as error:
        _explain(gateway, error)


def _explain(gateway: Gateway, error: httpx.TransportError) -> NoReturn:
    text = str(error) or type(error).__name__
    if re.search("WRONG_VERSION_NUMBER|RECORD_LAYER|UNEXPECTED_EOF|INVALID_CHARACTER", text):
        raise InvalidSetting(
            f"{gateway.url} does not speak TLS as a gateway's listener does. 'headrace token create' shows the URL."
        ) from error
    if "CERTIFICATE_VERIFY_FAILED" in text:
        raise InvalidSetting(f"The certificate of {gateway.url} can't be trusted: {text.rstrip('.')}.") from error
    raise Unavailable(
        f"{gateway.url} does not answer: {text.rstrip('.')}. Does 'headrace up --listen' run there, and does the "
        "network let this machine reach it?"
    ) from error


def _certificate_request(path: Path, node: str) -> str:
    """For the key in a file, which is made the first time."""
    if path.exists():
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    else:
        key = ec.generate_private_key(ec.SECP256R1())
        write(path, key_pem(key), private=True)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, node)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode()
