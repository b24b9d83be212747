"""Under which address this machine is seen by Redis, and so by the other machines that share it."""

from __future__ import annotations

import socket
from typing import Any

from gateway.store.redis_url import sentinels, url_options


def address_towards(redis_url: str) -> str:
    """This machine's address on the way to Redis; empty over a socket, or where there is no way now."""
    if watched := sentinels(redis_url):
        host, port = watched.hosts[0]
    else:
        options: dict[str, Any] = url_options(redis_url)
        if "path" in options:
            return ""
        host, port = options.get("host", "localhost"), options.get("port", 6379)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
        family, kind, protocol, _, peer = found[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.connect(peer)  # of a datagram socket: nothing is sent
            return str(probe.getsockname()[0])
    except OSError:
        return ""
