"""A claimed deployment, as the journal's writer sees it. Knows no Redis and no replica."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from gateway.jobs.events import Append, EventType
from gateway.jobs.record import Job
from workers.journal.claimed_job import ClaimedJob


class DeploymentJob(ClaimedJob):
    """A claimed deployment. Two threads write it, its own and the emitter's, so it has a lock."""

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self.to_cancel = threading.Event()
        if job.cancel:
            self.to_cancel.set()
        self._lock = threading.RLock()

    def usage(self) -> Mapping[str, int]:
        """A deployment uses no tokens."""
        return {}

    def cancel(self) -> None:
        """Do nothing yet: it ends as cancelled only when everything is rolled back."""
        self.to_cancel.set()

    def cancelled(self) -> None:
        """End it as cancelled: everything is rolled back."""
        super().cancel()

    def event(self, kind: EventType, body: Mapping[str, Any]) -> None:
        """As in the base class, but never while the emitter collects events."""
        with self._lock:
            super().event(kind, body)

    def unconfirmed(self) -> Append | None:
        """As in the base class, but never while an event is written."""
        with self._lock:
            return super().unconfirmed()

    def _end(self, *args: Any) -> None:
        with self._lock:
            super()._end(*args)
