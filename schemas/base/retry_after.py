"""How long a server asks to wait, in the headers of its answer (RFC 9110, section 10.2.3)."""

from __future__ import annotations

import email.utils
import math
import time
from collections.abc import Mapping

#: Longest accepted wait: a day.
MAX_WAIT_S = 86_400.0


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """The wait in seconds, from seconds or a date (RFC 9110), or OpenAI's milliseconds; None if there is none."""
    for name, unit_s in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name, "")
        try:
            wait_s = float(value) * unit_s
        except ValueError:
            wait_s = _seconds_until(value)
        if math.isfinite(wait_s):
            return min(max(0.0, wait_s), MAX_WAIT_S)
    return None


def _seconds_until(date: str) -> float:
    """How long until a date; NaN if it is none."""
    try:
        moment = email.utils.parsedate_tz(date)
        return email.utils.mktime_tz(moment) - time.time() if moment else math.nan
    except (ValueError, OverflowError, IndexError, TypeError):
        return math.nan
