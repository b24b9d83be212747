"""Where the listener listens, and what others call it."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

from gateway.errors import InvalidSetting

#: The one for Redis over TLS.
PORT = 6380
_ALL = ("0.0.0.0", "::")


def listen_address(listen: str) -> tuple[str, int]:
    """HEADRACE_LISTEN as host and port. Raises: InvalidSetting."""
    try:
        parts = urlsplit(f"//{listen}")
        host, port = parts.hostname or "", PORT if parts.port is None else parts.port
    except ValueError:
        host, port = "", 0
    if not host or not port or parts.path or parts.query or "@" in listen:
        raise InvalidSetting(
            f"HEADRACE_LISTEN is {listen!r:.100}; it must be HOST:PORT, such as 0.0.0.0:{PORT} for all addresses of "
            "this machine, or 10.0.0.1 for one."
        )
    return host, port


def join_url(listen: str) -> str:
    """The URL at which machines join, with this machine's name if it listens on all addresses."""
    host, port = listen_address(listen)
    host = socket.gethostname() if host in _ALL else host
    return f"https://{f'[{host}]' if ':' in host else host}:{port}"
