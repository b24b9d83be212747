"""The table of the jobs that one worker holds, and the bulkheads between them.

Whatever goes wrong with one job ends that job, and touches no other. Any thread may call it.
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

log = logging.getLogger(__name__)


class HeldJobs:
    """`owner`: the incarnation in whose name they are claimed. `on_drop` hears of each that leaves the table."""

    def __init__(self, *, store: JobStore, owner: str, on_drop: Callable[[ClaimedJob], None]) -> None:
        self.store = store
        self.owner = owner
        self._on_drop = on_drop
        self._lock = threading.Lock()
        self._held: dict[str, ClaimedJob] = {}
        self._claiming: set[str] = set()
        #: Those that have something new for the journal.
        self._dirty: dict[str, ClaimedJob] = {}

    @property
    def held(self) -> list[ClaimedJob]:
        """The jobs that are held now."""
        with self._lock:
            return list(self._held.values())

    def known(self) -> set[str]:
        """The ids of the jobs that are held, or are being claimed."""
        with self._lock:
            return {*self._claiming, *self._held}

    @contextlib.contextmanager
    def claiming(self, job_id: str) -> Iterator[bool]:
        """While a claim is made, the audit leaves the job alone. False if this worker has the job already.

        Whatever is raised within ends the job, unless it is a matter of waiting: it must not come back for ever.

        Raises: NOT_NOW, and what was claimed is given back by the audit.
        """
        with self._lock:
            acquired = job_id not in self._held and job_id not in self._claiming
            if acquired:
                self._claiming.add(job_id)
        try:
            yield acquired
        except Exception as error:
            if isinstance(error, NOT_NOW) and not is_lasting(error):
                raise
            self._end_unheld(job_id, error)
        finally:
            if acquired:
                with self._lock:
                    self._claiming.discard(job_id)

    def hold(self, job: ClaimedJob) -> None:
        """Add a job that was claimed."""
        with self._lock:
            self._held[job.id] = self._dirty[job.id] = job

    def touch(self, *jobs: ClaimedJob) -> None:
        """Say that jobs have something new for the journal."""
        with self._lock:
            for job in jobs:
                self._dirty[job.id] = job

    def take_dirty(self, *, urgent_only: bool) -> list[ClaimedJob]:
        """Those that have something new, or only those for which somebody waits. They are clean then."""
        with self._lock:
            jobs = [job for job in self._dirty.values() if job.urgent or not urgent_only]
            for job in jobs:
                del self._dirty[job.id]
        return jobs

    def cancel(self, job: ClaimedJob, reason: str) -> None:
        """End a job as cancelled, unless it is on its way there."""
        if not job.cancel_reason:
            job.cancel_reason = reason
            job.cancel()
            self.touch(job)

    def drop(self, job: ClaimedJob) -> None:
        """Forget a job, whatever its state."""
        self._on_drop(job)
        with self._lock:
            self._held.pop(job.id, None)
            self._dirty.pop(job.id, None)
        job.finished.set()

    @contextlib.contextmanager
    def bulkhead(self, job: ClaimedJob) -> Iterator[None]:
        """What is raised within fails this job, and no other, unless it is a matter of waiting.

        Raises: NOT_NOW.
        """
        try:
            yield
        except Exception as error:
            if isinstance(error, NOT_NOW) and not is_lasting(error):
                raise
            log.exception("job %s: an error of ours", job.id)
            self.drop(job)
            break_off(self.store, job.job, error)

    def _end_unheld(self, job_id: str, error: Exception) -> None:
        """End a job that waits, or that is claimed in our name, though it is not held yet. Raises: NOT_NOW."""
        log.error("job %s: not begun", job_id, exc_info=error)
        try:
            if isinstance(error, Unreadable):
                raise error
            job = self.store.read(job_id)
        except Unreadable:
            quarantine(self.store, job_id)
            return
        if job and (job.state is JobState.QUEUED or job.owner == self.owner):
            break_off(self.store, job, error)


def break_off(store: JobStore, job: Job, error: Exception) -> None:
    """Fail a claimed job by an error of ours. If Redis does not take that now, the claim is audited later."""
    message = f"Something went wrong on our side ({type(error).__name__}); the worker's log has it under the job's id."
    try:
        fail(store, job, reason="internal_error", message=message, take_claim=job.claim)
    except Exception:  # whatever it is, the other jobs go on
        log.exception("job %s: its end was not written", job.id)
