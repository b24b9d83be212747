"""The pace of streams, as it is set."""

from __future__ import annotations

from gateway.settings import Settings
from workers.engines.flush_interval import Pace


def pace_of(settings: Settings) -> Pace:
    """How often streams are written to."""
    return Pace(settings.stream_interval_s, settings.stream_interval_max_s)
