"""Exports the spans of jobs that have ended. The script that ends a job notes it for that, so none is forgotten.

A job is taken from the list before its spans are sent, so that what can't be exported ends with its try.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import cast

from gateway.errors import Unreadable
from gateway.jobs.record import AGENT_KINDS
from gateway.jobs.store import JobStore
from gateway.models.catalog import Catalog
from gateway.models.entry import Provider
from gateway.store import keys
from gateway.store.loop import guarded
from gateway.tracing.job_spans import job_spans
from gateway.tracing.spans import Exporter, Span
from gateway.views.timeline import read_timeline

log = logging.getLogger(__name__)

#: Jobs whose spans are sent together.
AT_ONCE = 50


class JobTraces:
    """Takes jobs from the list, one process at a time or several."""

    def __init__(self, store: JobStore, catalog: Catalog, exporter: Exporter) -> None:
        self._store = store
        self._catalog = catalog
        self._exporter = exporter

    def step(self) -> None:
        """Export all that waits. Raises: NOT_NOW."""
        while ids := cast("list[str] | None", self._store.redis.lpop(keys.TRACES, AT_ONCE)):
            spans: list[Span] = []
            for job_id in ids:
                with guarded(f"the trace of job {job_id}"):
                    spans += self.spans(job_id)
            if spans:
                self._exporter.export(spans)

    def spans(self, job_id: str) -> Sequence[Span]:
        """All spans of one job; none if it is gone, or can't be read. Raises: NOT_NOW."""
        try:
            job = self._store.head(job_id)
            if job is None or not job.trace.traceparent:
                return []
            stages = self._store.journals.read(job_id) if job.kind in AGENT_KINDS else []
            return job_spans(job, read_timeline(self._store.redis, job_id), stages, self._provider_of)
        except Unreadable as error:
            log.warning("job %s has no trace: %s", job_id, error)
            return []

    def _provider_of(self, model_id: str) -> Provider | None:
        return next((model.via for model in self._catalog if model.id == model_id), None)
