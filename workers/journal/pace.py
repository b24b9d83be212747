"""The flush interval from the settings."""

from __future__ import annotations

from gateway.settings import Settings
from workers.engines.flush_interval import FlushInterval


def flush_interval_of(settings: Settings) -> FlushInterval:
    """How often streams are written."""
    return FlushInterval(settings.stream_interval_s, settings.stream_interval_max_s)
