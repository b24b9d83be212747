"""A model is deployed, scaled or unloaded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gateway.cluster.desired import Desired, ReplicaSpec
from gateway.deployments import views
from gateway.jobs.events import Event
from gateway.jobs.job_kind import JobKind
from gateway.jobs.record import Job
from gateway.jobs.store import JobStore
from gateway.store.codec import build


class Deployment(JobKind):
    """A deployment. It runs no model, and uses no tokens."""

    capability = ""

    def chunks(self, job: Job, event: Event) -> list[dict[str, Any]]:
        """Stages, their progress, and lines for people."""
        return views.chunks(job, event)

    def answer(self, store: JobStore, job: Job, events: Sequence[Event]) -> dict[str, Any]:
        """The status of each stage."""
        return views.detail(job, events)

    def on_end(self, store: JobStore, job: Job) -> None:
        """Remove the specs that it added: no agent runs it any more that could roll it back."""
        Desired(store.redis).drop(build(ReplicaSpec, one) for one in job.request["wanted"])
