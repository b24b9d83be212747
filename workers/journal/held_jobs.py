"""The table of the jobs that one worker holds, and the bulkheads between them.

An error of one job ends that job, and touches no other. Thread-safe.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator

from gateway.errors import Unreadable
from gateway.jobs.control import fail
from gateway.jobs.damaged import quarantine
from gateway.jobs.record import Job, JobState
from gateway.jobs.store import JobStore
from gateway.store.connection import NOT_NOW, is_lasting
from workers.journal.claimed_job import ClaimedJob
from workers.journal.task_events import TaskEvents

log = logging.getLogger(__name__)


class HeldJobs:
    """`owner`: the incarnation that holds the claims. `on_drop` is called for each job that leaves the table."""

    def __init__(self, *, store: JobStore, owner: str, on_drop: Callable[[ClaimedJob], None]) -> None:
        self.store = store
        self.owner = owner
        self._on_drop = on_drop
        self._lock = threading.Lock()
        self._held: dict[str, ClaimedJob] = {}
        self._claiming: set[str] = set()
        #: What Flower shows of them.
        self.task_events = TaskEvents()
        #: Jobs with new events for the journal.
        self._dirty: dict[str, ClaimedJob] = {}

    @property
    def held(self) -> list[ClaimedJob]:
        """The held jobs."""
        with self._lock:
            return list(self._held.values())

    def known(self) -> set[str]:
        """The ids of the jobs that are held, or are being claimed."""
        with self._lock:
            return {*self._claiming, *self._held}

    @contextlib.contextmanager
    def claiming(self, *job_ids: str) -> Iterator[list[str]]:
        """Context of claims, in which the audit ignores these jobs. Yields those that this worker does not have yet."""
        with self._lock:
            new = [job_id for job_id in job_ids if job_id not in self._held and job_id not in self._claiming]
            self._claiming.update(new)
        try:
            yield new
        finally:
            with self._lock:
                self._claiming.difference_update(new)

    @contextlib.contextmanager
    def ending(self, job_id: str) -> Iterator[None]:
        """Context of the claim of one job, within `claiming`. Any other error than NOT_NOW ends the job, so that it
        does not come back for ever.

        Raises: NOT_NOW; then the audit gives the job back if it was claimed.
        """
        try:
            yield
        except Exception as error:
            if isinstance(error, NOT_NOW) and not is_lasting(error):
                raise
            self._end_unheld(job_id, error)

    def hold(self, job: ClaimedJob) -> None:
        """Add a job that was claimed."""
        with self._lock:
            self._held[job.id] = self._dirty[job.id] = job
        log.debug("job %s: claimed", job.id, extra=job.job.log_ids)
        self.task_events.begun(job)

    def touch(self, *jobs: ClaimedJob) -> None:
        """Note that jobs have new events."""
        with self._lock:
            for job in jobs:
                self._dirty[job.id] = job

    def take_dirty(self, *, urgent_only: bool) -> list[ClaimedJob]:
        """Take the jobs with new events, or only the urgent ones."""
        with self._lock:
            jobs = [job for job in self._dirty.values() if job.urgent or not urgent_only]
            for job in jobs:
                del self._dirty[job.id]
        return jobs

    def cancel(self, job: ClaimedJob, reason: str) -> None:
        """End a job as cancelled, unless that has begun already."""
        if not job.cancel_reason:
            job.cancel_reason = reason
            job.cancel()
            self.touch(job)

    def drop(self, job: ClaimedJob) -> None:
        """Remove a job, in any state."""
        self._on_drop(job)
        with self._lock:
            was_held = self._held.pop(job.id, None)
            self._dirty.pop(job.id, None)
        job.finished.set()
        if was_held:
            log.debug("job %s: no longer held (%s)", job.id, job.state or "not ended", extra=job.job.log_ids)
            self.task_events.ended(job)

    @contextlib.contextmanager
    def bulkhead(self, job: ClaimedJob) -> Iterator[None]:
        """Context in which any error but NOT_NOW fails this job, and no other.

        Raises: NOT_NOW.
        """
        try:
            yield
        except Exception as error:
            if isinstance(error, NOT_NOW) and not is_lasting(error):
                raise
            log.exception("job %s: an error of ours", job.id, extra=job.job.log_ids)
            self.drop(job)
            break_off(self.store, job.job, error)

    def _end_unheld(self, job_id: str, error: Exception) -> None:
        """End a job that waits, or is claimed by this worker but not held yet. Raises: NOT_NOW."""
        try:
            if isinstance(error, Unreadable):
                raise error
            job = self.store.read(job_id)
        except Unreadable:
            log.error("job %s: not begun", job_id, exc_info=error, extra={"job_id": job_id})
            quarantine(self.store, job_id)
            return
        log.error("job %s: not begun", job_id, exc_info=error, extra=job.log_ids if job else {"job_id": job_id})
        if job and (job.state is JobState.QUEUED or job.owner == self.owner):
            break_off(self.store, job, error)


def break_off(store: JobStore, job: Job, error: Exception) -> None:
    """Fail a claimed job with an internal error. If Redis is away, the audit releases the claim later."""
    message = f"Something went wrong on our side ({type(error).__name__}); the worker's log has it under the job's id."
    try:
        fail(store, job, reason="internal_error", message=message, take_claim=job.claim)
    except Exception:  # the other jobs go on
        log.exception("job %s: its end was not written", job.id, extra=job.log_ids)
