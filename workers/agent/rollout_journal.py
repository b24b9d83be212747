"""Writes the events of a rollout: into its job's journal, and as the progress of its Celery task. Knows no replica."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from celery import Celery

from gateway.deployments import views as deployment_views
from gateway.jobs.events import Event, EventType
from workers.agent.deployment_job import DeploymentJob

#: Log lines in the error of a deployment that has failed.
LAST_LINES = 8


class RolloutJournal:
    """Writes one deployment's events; `touch` tells the emitter that there are new ones."""

    def __init__(
        self, job: DeploymentJob, events: Sequence[Event], celery: Celery, *, touch: Callable[[DeploymentJob], None]
    ) -> None:
        self.job = job
        self.progress = deployment_views.Progress.from_events(job.job, events)
        self._celery = celery
        self._touch = touch

    def write(self, kind: EventType, body: Mapping[str, Any]) -> None:
        """Add an event."""
        self.progress.take(kind, body)
        self.job.event(kind, body)
        self._touch(self.job)

    def say(self, message: str, level: str = "info") -> None:
        """Add a line for people."""
        self.write(EventType.LOG, {"at": now_ms(), "level": level, "message": message})

    def last_lines(self) -> list[str]:
        """The last log lines."""
        return [line["message"] for line in self.progress.logs][-LAST_LINES:]

    def publish(self, state: str, **more: str) -> None:
        """Store the progress as metadata of the Celery task, for Flower and AsyncResult. Raises: NOT_NOW."""
        view = deployment_views.stages(self.job.job, self.progress, now_ms=now_ms())
        meta: dict[str, Any] = {"model_id": self.job.job.model, **view, **more}
        if state == "FAILURE":
            reason = {"exc_module": "gateway.deployments.reasons", "exc_type": "DeploymentFailed"}
            meta |= {**reason, "exc_message": [more["message"]]}
        self._celery.backend.store_result(self.job.id, meta, state)


def now_ms() -> int:
    """Milliseconds since the epoch."""
    return int(time.time() * 1000)
