"""HEADRACE_REDIS_URL: one server, over TCP, TLS or a socket, or the one that sentinels name. Opens no connection.

`sentinel://USER:PASSWORD@HOST:PORT,HOST:PORT/DB?master_name=NAME`: user, password, db and `ssl_*` are those of the
servers, `sentinel_username` and `sentinel_password` those of the sentinels. With any `ssl_*` both speak TLS.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import redis

from gateway.errors import InvalidSetting
from gateway.process.log_lines import MASK

_SCHEMES = ("redis://", "rediss://", "unix://", "sentinel://")
#: Allowed options in a URL: those that Celery's connections understand, too.
_URL_OPTIONS = {
    *("host", "port", "path", "db", "username", "password"),
    *("ssl_cert_reqs", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname"),
}
#: Those of `sentinel://` besides.
_SENTINEL_OPTIONS = ("master_name", "sentinel_username", "sentinel_password")
SENTINEL_PORT = 26379
#: More sentinels in one URL are a mistake.
_MOST_SENTINELS = 32


@dataclass(frozen=True)
class Sentinels:
    """Sentinels, and which of the servers that they watch is meant."""

    hosts: tuple[tuple[str, int], ...]
    master_name: str
    #: Of the servers, by redis-py's names: `db`, `username`, `password`, `ssl_*`.
    options: Mapping[str, Any]
    username: str = ""
    password: str = ""

    @property
    def tls(self) -> dict[str, Any]:
        """The options of TLS, with redis-py's default; empty without it."""
        found = {name: value for name, value in self.options.items() if name.startswith("ssl_")}
        return {"ssl_cert_reqs": "required", **found} if found else {}

    @property
    def own_options(self) -> dict[str, Any]:
        """Of the connections to the sentinels themselves, by redis-py's names."""
        who = {name: value for name, value in (("username", self.username), ("password", self.password)) if value}
        return {**who, **({"ssl": True, **self.tls} if self.tls else {})}


def masked(url: str) -> str:
    """A URL of Redis without passwords, to be shown. In doubt more is left out."""
    scheme, there, rest = url.partition("://") if "://" in url else ("", "", url)
    credentials, at, server = rest.rpartition("@")
    user = credentials.partition(":")[0]
    server = re.sub(r"(?i)([?&][^=&]*password[^=&]*=)[^&]*", rf"\1{MASK}", server)
    return f"{scheme}{there}{f'{user}:{MASK}' if credentials else ''}{at}{server}"


def url_options(url: str) -> dict[str, Any]:
    """The options in a URL of one server, by redis-py's names. Raises: InvalidSetting."""
    if not url.startswith(_SCHEMES):
        raise InvalidSetting(
            f"HEADRACE_REDIS_URL is {masked(url)!r}; it must begin with {', '.join(_SCHEMES[:-1])} or {_SCHEMES[-1]}."
        )
    try:
        options = dict(redis.connection.parse_url(url))
    except ValueError:  # `from None`: its text may quote the password
        raise _unreadable(url) from None
    options.pop("connection_class", None)
    _require_known(options, _URL_OPTIONS)
    return options


def sentinels(url: str) -> Sentinels | None:
    """The sentinels in a URL; None if it names the server itself. Raises: InvalidSetting."""
    if not url.startswith("sentinel://"):
        return None
    try:
        parts = urlsplit(url)
        credentials, at, hosts = parts.netloc.rpartition("@")
        query = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
        found = tuple(map(_host, hosts.split(",")))
    except ValueError:
        raise _unreadable(url) from None
    own = {name: query.pop(name, "") for name in _SENTINEL_OPTIONS}
    _require_known(query, {*_URL_OPTIONS - {"host", "port", "path"}, *_SENTINEL_OPTIONS})
    if not own["master_name"]:
        raise InvalidSetting(
            f"HEADRACE_REDIS_URL is {masked(url)!r}; it must say whose master is meant: add ?master_name=NAME."
        )
    if parts.fragment or len(found) > _MOST_SENTINELS:
        raise _unreadable(url)
    try:
        options = url_options(f"redis://{credentials}{at}host{parts.path}?{urlencode(query)}")
    except InvalidSetting:
        raise _unreadable(url) from None
    options.pop("host")
    return Sentinels(found, own["master_name"], options, own["sentinel_username"], own["sentinel_password"])


def with_options(url: str, options: Mapping[str, str]) -> str:
    """The URL with these options in the place of those that it has of the same names."""
    parts = urlsplit(url)
    query = {**dict(parse_qsl(parts.query)), **options}
    return urlunsplit(parts._replace(query=urlencode(query, safe="/")))


def _host(text: str) -> tuple[str, int]:
    """Raises: ValueError."""
    parts = urlsplit(f"//{text}")
    if not parts.hostname or parts.path or parts.query or "@" in text:
        raise ValueError(text)
    return parts.hostname, parts.port or SENTINEL_PORT


def _require_known(options: Mapping[str, Any], known: set[str]) -> None:
    """Raises: InvalidSetting."""
    if unknown := options.keys() - known:
        raise InvalidSetting(
            f"HEADRACE_REDIS_URL has the option {min(unknown)!r}. It may have: {', '.join(sorted(known))}."
        )


def _unreadable(url: str) -> InvalidSetting:
    return InvalidSetting(
        f"HEADRACE_REDIS_URL is {masked(url)!r}, which can't be read. Write it as redis://USER:PASSWORD@HOST:PORT/DB "
        "or sentinel://USER:PASSWORD@HOST:PORT,HOST:PORT/DB?master_name=NAME, with %2F for / and %40 for @ in the "
        "password."
    )
