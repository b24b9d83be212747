"""Initialization: the engine process starts, and builds the model."""

from __future__ import annotations

from workers.stages.base import Startup


def run(up: Startup) -> None:
    """Raises: EngineStartFailed."""
    assert up.worker is not None
    up.worker.start_engine()
    up.worker.await_engine(up, until_stage="model_loading")


def undo(up: Startup) -> None:
    """End the engine process, which frees its memory."""
    assert up.worker is not None
    up.worker.end_engine()
