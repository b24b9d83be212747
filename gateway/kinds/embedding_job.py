"""Texts become vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.inference.estimates import estimate_prompt
from gateway.inference.parameters import check_embedding
from gateway.jobs.events import Event
from gateway.jobs.job_kind import JobKind
from gateway.jobs.record import Job
from gateway.jobs.store import JobStore
from gateway.models.entry import Model
from gateway.views import embeddings


class Embedding(JobKind):
    """An embedding job. Its stream tells which texts are done; only the answer has the vectors."""

    capability = "embedding"

    def complete(self, model: Model, request: Mapping[str, Any]) -> dict[str, Any]:
        """The request as it is. Raises: InvalidRequest if the model has no vectors of that size."""
        return check_embedding(model, request)

    def estimate(self, model: Model, request: Mapping[str, Any]) -> int:
        """The texts."""
        return estimate_prompt(request)

    def chunks(self, job: Job, event: Event) -> list[dict[str, Any]]:
        """Which texts are done."""
        return embeddings.chunks(job, event)

    def answer(self, store: JobStore, job: Job, events: Sequence[Event]) -> dict[str, Any]:
        """The vectors. Raises: JobNotFound if they are gone."""
        return embeddings.answer(job, events, store.journals.vectors(job.id))
