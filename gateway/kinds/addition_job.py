"""A model is added to the catalog by its name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gateway.deployments import addition_views as views
from gateway.jobs.events import Event
from gateway.jobs.job_kind import JobKind
from gateway.jobs.record import Job
from gateway.jobs.store import JobStore


class Addition(JobKind):
    """An addition. It runs no model, and uses no tokens."""

    capability = ""

    def chunks(self, job: Job, event: Event) -> list[dict[str, Any]]:
        """Stages, their progress, what was found, and lines for people."""
        return views.chunks(job, event)

    def answer(self, store: JobStore, job: Job, events: Sequence[Event]) -> dict[str, Any]:
        """The model, and what was found out about it."""
        return views.detail(job, events)
