"""Writes the events of a job that an agent runs into its journal. Knows no replica and no file."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from gateway.jobs.events import EventType
from workers.agent.deployment_job import DeploymentJob

#: Log lines in the error of a job that has failed.
LAST_LINES = 8


class JobJournal:
    """`touch` tells the emitter that there are new events."""

    def __init__(self, job: DeploymentJob, *, touch: Callable[[DeploymentJob], None]) -> None:
        self.job = job
        self._touch = touch
        self._lines: list[str] = []

    def write(self, kind: EventType, body: Mapping[str, Any]) -> None:
        """Add an event."""
        self.job.event(kind, body)
        self._touch(self.job)

    def say(self, message: str, level: str = "info") -> None:
        """Add a line for people."""
        self._lines = [*self._lines, message][-LAST_LINES:]
        self.write(EventType.LOG, {"at": now_ms(), "level": level, "message": message})

    def last_lines(self) -> list[str]:
        """The last log lines of this claim."""
        return self._lines


def now_ms() -> int:
    """Milliseconds since the epoch."""
    return int(time.time() * 1000)
