"""How a command reaches the HTTP API: of this machine, or of another one (`--url`, `--key`)."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import click
import httpx

from cli.client import ServerError, message_of
from gateway.access.plaintext import is_loopback
from gateway.access.secret_files import bootstrap_file, bootstrap_key
from gateway.errors import InvalidSetting
from gateway.settings import Settings

F = TypeVar("F", bound=Callable[..., Any])
#: Addresses to listen on that stand for all of a machine, and one of them to connect to.
_ALL = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}
#: Of all answers of the API.
_KINDS = ("application/json", "text/event-stream", "application/openmetrics-text")
#: Longer than the pause between two comments of a stream.
TIMEOUT = httpx.Timeout(10.0, read=15.0)

url_option = click.option(
    "--url", envvar="HEADRACE_URL", help="The HTTP API, such as https://example.com/llm; else this machine's."
)
key_option = click.option(
    "--key", envvar="HEADRACE_API_KEY", help="API key; for this machine's API else the bootstrap key."
)


def http_url(settings: Settings) -> str:
    """The URL of this machine's HTTP API."""
    host = _ALL.get(settings.http_host, settings.http_host)
    scheme = "https" if settings.http_tls == "on" else "http"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{settings.http_port}"


def connect(settings: Settings, url: str | None, key: str | None) -> httpx.Client:
    """A client of this machine's API, or of the one at `url`. A key that is refused raises a ServerError with what to
    do about it. The bootstrap key of this machine is not sent to others.

    Raises:
        InvalidSetting: the URL or the file of the CA is wrong.
    """
    base = (url or http_url(settings)).rstrip("/")
    try:
        parts = urlsplit(base)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidSetting(f"The URL is {base!r}; it must begin with http:// or https:// and a host.")
    is_ours = url is None or is_loopback(parts.hostname)
    secret = key or (bootstrap_key(settings) if is_ours else "")

    def explain(response: httpx.Response) -> None:
        if response.status_code == 401:
            raise ServerError(f"{message_of(response)} {_remedy(settings, given=bool(key), sent=bool(secret))}")
        if response.has_redirect_location:
            raise ServerError(
                f"{base} redirects to {response.headers['Location']}. Let the URL be the one behind that."
            )
        if response.is_success and not response.headers.get("Content-Type", "").startswith(_KINDS):
            raise ServerError(f"What answers at {base} is not Headrace's API. Give the URL whose /health/live is.")

    return httpx.Client(
        base_url=base,
        headers={"Authorization": f"Bearer {secret}"} if secret else {},
        timeout=TIMEOUT,
        trust_env=False,
        verify=trusted(settings) if parts.scheme == "https" else True,
        event_hooks={"response": [explain]},
    )


def unreachable(error: httpx.TransportError) -> str:
    """Why there was no answer, and what to do."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLCertVerificationError):
        cause = cause.__cause__ or cause.__context__
    if cause is None:
        base = error.request.url.copy_with(path="", query=None)
        return f"The server at {base} does not answer: {error}. Is 'headrace up' running?"
    return (
        f"The certificate of {error.request.url.host} is not trusted: {cause.verify_message}. Name its CA's file in "
        "HEADRACE_CA_FILE; the development CA is tls/ca.pem in the server's data folder ('headrace cert')."
    )


def trusted(settings: Settings) -> ssl.SSLContext:
    """Trusts public CAs (or those of SSL_CERT_FILE), the development CA of the data folder, and HEADRACE_CA_FILE.

    Raises:
        InvalidSetting: that file can't be read.
    """
    context = httpx.create_ssl_context()
    ours = settings.tls_dir / "ca.pem"
    for name, path in (("The development CA", ours), ("HEADRACE_CA_FILE", settings.ca_file and Path(settings.ca_file))):
        if not path or (path == ours and not path.exists()):
            continue
        try:
            context.load_verify_locations(path)
        except (OSError, ssl.SSLError) as error:
            raise InvalidSetting(f"{name}, {path}, can't be read as a PEM file of a CA: {error}.") from error
    return context


def remedy(settings: Settings) -> str:
    """What to do about a bootstrap key of this machine that can't be used."""
    another = "give another key with --key or HEADRACE_API_KEY"
    if settings.bootstrap_key:
        return f"It is HEADRACE_BOOTSTRAP_KEY; set that to a new secret and restart, or {another}."
    at = bootstrap_file(settings)
    return f"It is in {at}. Remove that file and run 'headrace up' again for a new one, or {another}."


def _remedy(settings: Settings, *, given: bool, sent: bool) -> str:
    """What to do about a key that was refused."""
    if given:
        return "It came from --key or HEADRACE_API_KEY."
    return remedy(settings) if sent else "Give one with --key or HEADRACE_API_KEY."
