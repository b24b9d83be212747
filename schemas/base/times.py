"""Times as clients see them."""

from __future__ import annotations

import datetime


def iso(time_ms: int) -> str | None:
    """ISO 8601 in UTC; None for 0, which is never."""
    if not time_ms:
        return None
    moment = datetime.datetime.fromtimestamp(time_ms / 1000, datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def iso_seconds(time_s: float) -> str:
    """The same of seconds since the epoch, to the second. 0 is a time like others."""
    return f"{datetime.datetime.fromtimestamp(time_s, datetime.UTC):%Y-%m-%dT%H:%M:%SZ}"
