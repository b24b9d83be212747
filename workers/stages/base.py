"""What a stage of a replica's startup gets, and what it may do. Knows no particular stage."""

from __future__ import annotations

import threading
import time
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

#: Progress is written at most so often.
REPORT_S = 0.25


class EngineHost(Protocol):
    """What the model worker's stages need of the worker."""

    #: Set while the worker takes jobs from its queues.
    consuming: threading.Event

    def start_engine(self) -> None:
        """Spawn the engine process, which begins to load."""

    def await_engine(self, up: Startup, *, until_stage: str = "") -> None:
        """Follow the engine's loading, up to a stage of it or to its end. Raises: EngineStartFailed."""

    def end_engine(self) -> None:
        """Give back what was loaded."""

    def activate(self) -> None:
        """Take jobs from now on."""

    def announce(self) -> Replica:
        """Say that it serves, at once and not with the next beat. Returns what was said."""


@dataclass
class Startup:
    """One replica on its way up, in one process. Later stages find here what earlier ones have left."""

    settings: Settings
    spec: ReplicaSpec
    model: Model
    log: StartupLog
    cancelled: threading.Event = field(default_factory=threading.Event)
    stage: str = ""
    # Set by the agent's stages.
    source: Source | None = None
    path: Path = Path()
    planned_bytes: int = 0
    kv_capacity_tokens: int = 0
    # Set by the model worker.
    worker: EngineHost | None = None
    _progress: tuple[int, float] = (-1, 0.0)

    def say(self, message: str, level: str = "info") -> None:
        """A line for people."""
        self.log.append(level=level, message=message)

    def report(self, done: int, total: int) -> None:
        """How far the stage is. Raises: DeploymentFailed (CANCELLED) if nobody wants the replica any more."""
        self.check()
        percent, now = min(99, 100 * done // max(total, 1)), time.monotonic()
        if percent > self._progress[0] and now > self._progress[1] + REPORT_S:
            self._progress = (percent, now)
            self.log.append(stage=self.stage, status=StageStatus.IN_PROGRESS, progress=percent)

    def check(self) -> None:
        """Raises: DeploymentFailed (CANCELLED) if nobody wants the replica any more."""
        if self.cancelled.is_set():
            raise DeploymentFailed(FailureReason.CANCELLED, "The replica is not wanted any more.")

    def begin(self, stage: str) -> None:
        """The stage begins."""
        self.stage, self._progress = stage, (-1, 0.0)
        self.check()
        self.log.append(stage=stage, status=StageStatus.IN_PROGRESS)

    def finish(self) -> None:
        """The stage has ended well."""
        self.log.append(stage=self.stage, status=StageStatus.COMPLETED, progress=100)

    def fail(self) -> None:
        """The stage has not."""
        self.log.append(stage=self.stage, status=StageStatus.FAILED, progress=max(0, self._progress[0]))

    def facts(self, **facts: Any) -> None:
        """Figures to remember of the replica."""
        self.log.append(facts=facts)


class Stage(Protocol):
    """A module of this package, of the stage's name."""

    def run(self, up: Startup) -> None:
        """Do it. Raises: DeploymentFailed, and what `workers/host/failures.py` can tell the reason of."""

    def undo(self, up: Startup) -> None:
        """Take back what it did, as far as it got, since it or a later one failed."""
