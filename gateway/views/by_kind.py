"""What a job of any kind shows to clients: the chunks of its stream, and its answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gateway.deployments import views as deployments
from gateway.jobs.record import DEPLOYMENT, Event, Job
from gateway.jobs.store import JobStore
from gateway.views import embeddings, text


def chunks(job: Job, event: Event) -> list[dict[str, Any]]:
    """The stream chunks for one event; an event without visible effect gives none."""
    if job.kind == DEPLOYMENT:
        return deployments.chunks(job, event)
    return embeddings.chunks(job, event) if job.kind == "embedding" else text.chunks(job, event)


def answer(store: JobStore, job: Job, events: Sequence[Event]) -> dict[str, Any]:
    """The full answer of a job that has ended with these events. Raises: JobNotFound if its vectors are gone."""
    if job.kind == DEPLOYMENT:
        return deployments.detail(job, events)
    if job.kind == "embedding":
        return embeddings.answer(job, events, store.vectors(job.id))
    return text.answer(job, events)
