"""Loading: tensors and warm-up steps, as the engine process counts them."""

from __future__ import annotations

from workers.stages.base import BringUp


def run(up: BringUp) -> None:
    """Raises: EngineStartFailed."""
    assert up.worker is not None
    up.worker.await_engine(up)


def undo(up: BringUp) -> None:
    """The engine process is the first stage's."""
