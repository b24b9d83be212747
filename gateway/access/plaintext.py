"""Whether what is sent in the clear could be read on the way."""

from __future__ import annotations

import ipaddress

from gateway.settings import Settings


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches that address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def warning(settings: Settings) -> str:
    """What to say of the REST face; empty if nobody can read along, or that is taken care of."""
    if settings.http_tls != "off" or is_loopback(settings.http_host):
        return ""
    return (
        f"REST listens on {settings.http_host}:{settings.http_port} without TLS: keys and prompts can be read on the "
        "way. Set HEADRACE_HTTP_TLS=on, or, if a proxy in front ends TLS, HEADRACE_HTTP_TLS=proxy."
    )
