"""Which version of Headrace this process is."""

from __future__ import annotations

from importlib import metadata


def own_version() -> str:
    """As the package says; empty if it is not installed."""
    try:
        return metadata.version("headrace")
    except metadata.PackageNotFoundError:
        return ""
