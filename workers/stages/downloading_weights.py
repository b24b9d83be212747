"""Downloading: fetches missing files to this machine, and checks them."""

from __future__ import annotations

from workers.stages.base import Startup


def run(up: Startup) -> None:
    """Raises: DeploymentFailed."""
    assert up.source is not None
    up.path = up.source.fetch(on_progress=up.report, is_cancelled=up.cancelled.is_set, log=up.say)


def undo(up: Startup) -> None:
    """Remove partial files."""
    if up.source is not None:
        up.source.discard()
