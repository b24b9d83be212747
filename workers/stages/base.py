"""The contract of a stage of a replica's startup, and what it gets. Knows no particular stage."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from gateway.cluster.desired import ReplicaSpec
from gateway.cluster.registry import Replica
from gateway.cluster.startup import StageStatus, StartupLog
from gateway.deployments.reasons import DeploymentFailed, FailureReason
from gateway.models.entry import Model
from gateway.settings import Settings
from workers.sources.base import Source

#: Least interval between two progress entries.
REPORT_S = 0.25


class EngineHost(Protocol):
    """The part of the model worker that its stages use."""

    #: Set while the worker takes jobs from its queues.
    consuming: threading.Event

    def start_engine(self) -> None:
        """Spawn the engine process, which begins to load."""

    def await_engine(self, up: Startup, *, until_stage: str = "") -> None:
        """Follow the engine's loading, up to a stage or to its end. Raises: EngineStartFailed."""

    def end_engine(self) -> None:
        """End the engine process, which frees its memory."""

    def activate(self) -> None:
        """Take jobs from now on."""

    def announce(self) -> Replica:
        """Send a heartbeat at once that says that it serves. Returns the record."""


@dataclass
class Startup:
    """The startup of one replica, in one process. Stages pass results to later stages in its fields."""

    settings: Settings
    spec: ReplicaSpec
    model: Model
    log: StartupLog
    cancelled: threading.Event = field(default_factory=threading.Event)
    #: What idle replicas of the device would give back for it, in bytes. May raise NOT_NOW.
    reclaimable_bytes: Callable[[], int] = lambda: 0
    stage: str = ""
    # Set by the agent's stages.
    source: Source | None = None
    path: Path = Path()
    planned_bytes: int = 0
    #: The most that it takes, while it is loaded or afterwards.
    peak_bytes: int = 0
    kv_capacity_tokens: int = 0
    # Set by the model worker.
    worker: EngineHost | None = None
    _progress: tuple[int, float] = (-1, 0.0)

    def say(self, message: str, level: str = "info") -> None:
        """Add a log line for people."""
        self.log.append(level=level, message=message)

    def report(self, done: int, total: int, *, counts: bool = True) -> None:
        """Report progress of the stage; `counts`: of something, such as bytes or tensors, and not an estimate.

        Raises: DeploymentFailed (CANCELLED) if the replica is no longer desired.
        """
        self.check()
        percent, now = min(99, 100 * done // max(total, 1)), time.monotonic()
        if percent > self._progress[0] and now > self._progress[1] + REPORT_S:
            self._progress = (percent, now)
            units = {"units_done": done, "units_total": total} if counts else {}
            self.log.append(stage=self.stage, status=StageStatus.IN_PROGRESS, progress=percent, **units)

    def check(self) -> None:
        """Raises: DeploymentFailed (CANCELLED) if the replica is no longer desired."""
        if self.cancelled.is_set():
            raise DeploymentFailed(FailureReason.CANCELLED, "The replica is not wanted any more.")

    def begin(self, stage: str) -> None:
        """Note that a stage begins."""
        self.stage, self._progress = stage, (-1, 0.0)
        self.check()
        self.log.append(stage=stage, status=StageStatus.IN_PROGRESS)

    def finish(self) -> None:
        """Note that the stage has succeeded."""
        self.log.append(stage=self.stage, status=StageStatus.COMPLETED, progress=100)

    def fail(self) -> None:
        """Note that the stage has failed."""
        self.log.append(stage=self.stage, status=StageStatus.FAILED, progress=max(0, self._progress[0]))

    def facts(self, **facts: Any) -> None:
        """Add facts about the replica, such as its planned memory."""
        self.log.append(facts=facts)


class Stage(Protocol):
    """A module of this package, of the stage's name."""

    def run(self, up: Startup) -> None:
        """Run the stage. Raises: DeploymentFailed, or any error that `workers/host/failures.py` can classify."""

    def undo(self, up: Startup) -> None:
        """Undo the stage, as far as it got, since it or a later one failed."""
