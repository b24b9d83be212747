"""Loading: tensors and warm-up steps, as the engine process counts them."""

from __future__ import annotations

from workers.stages.base import Startup


def run(up: Startup) -> None:
    """Raises: EngineStartFailed."""
    assert up.worker is not None
    up.worker.await_engine(up)


def undo(up: Startup) -> None:
    """Nothing: the first stage ends the engine process."""
