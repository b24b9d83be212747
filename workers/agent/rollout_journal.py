"""Writes the events of a rollout: into its job's journal, and as the progress of its Celery task. Knows no replica."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from celery import Celery

from gateway.deployments import views as deployment_views
from gateway.jobs.events import Event, EventType
from workers.agent.deployment_job import DeploymentJob
from workers.agent.job_journal import LAST_LINES, JobJournal, now_ms


class RolloutJournal(JobJournal):
    """Writes one deployment's events, and follows its progress."""

    def __init__(
        self, job: DeploymentJob, events: Sequence[Event], celery: Celery, *, touch: Callable[[DeploymentJob], None]
    ) -> None:
        super().__init__(job, touch=touch)
        self.progress = deployment_views.Progress.from_events(job.job, events)
        self._celery = celery

    def write(self, kind: EventType, body: Mapping[str, Any]) -> None:
        """Add an event."""
        self.progress.take(kind, body)
        super().write(kind, body)

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
