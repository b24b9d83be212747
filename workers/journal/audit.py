"""Compares the jobs that a worker holds with Redis, and reconciles both, also when Redis has lost data."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque

from celery import Celery

from gateway.jobs.record import Cause, JobHead
from gateway.jobs.recovery import give_back, held_by
from gateway.store.connection import NOT_NOW, run_id
from workers.journal.claimed_job import ClaimedJob
from workers.journal.held_jobs import HeldJobs

log = logging.getLogger(__name__)

#: How long the events of an ended job are kept, in case Redis comes back without its last second.
KEEP_ENDED_S = 10.0


class Audit:
    """The audit of one table of jobs. Thread-safe."""

    def __init__(self, jobs: HeldJobs, celery: Celery) -> None:
        self._jobs = jobs
        self._store = jobs.store
        self._celery = celery
        self._redis_run_id = ""
        self._restoring = threading.Lock()
        self._lock = threading.Lock()
        #: Jobs that ended lately, with the time by the steady clock; Redis may still lose their end.
        self._ended: deque[tuple[float, ClaimedJob]] = deque()

    @property
    def ended(self) -> list[ClaimedJob]:
        """The jobs that have ended lately."""
        with self._lock:
            return [job for _, job in self._ended]

    def note_end(self, job: ClaimedJob) -> None:
        """Keep a job for a while after Redis has confirmed its end."""
        with self._lock:
            self._ended.append((time.monotonic(), job))

    def look_at_quiet_jobs(self) -> None:
        """Find lost claims and cancellations of jobs without appends. Raises: NOT_NOW."""
        self.redis_came_back()
        with self._lock:
            while self._ended and self._ended[0][0] < time.monotonic() - KEEP_ENDED_S:
                self._ended.popleft()
        quiet = {job.id: job for job in self._jobs.held if job.flushed}
        for job_id, record in self._store.heads(quiet).items():
            job = quiet[job_id]
            if record is None:
                self.make_anew(job)
            elif record.claim != job.job.claim or record.state.ended:
                self._jobs.drop(job)
            elif record.cancel:
                self._jobs.cancel(job, record.cancel_reason or "client_request")

    def release_unknown(self) -> None:
        """Release jobs that this worker owns in Redis, but does not hold (the reply of a claim was lost).

        Raises: NOT_NOW.
        """
        for job in held_by(self._store, self._jobs.owner, without=self._jobs.known(), itself=True):
            if job.id not in self._jobs.known():
                log.warning("job %s: held in our name but unknown here, released", job.id, extra=job.log_ids)
                self.give_back(job, Cause.GIVEN_BACK)

    def redis_came_back(self) -> bool:
        """Whether Redis was restarted. If so, it may lack its last second, so everything is sent again.

        Raises: NOT_NOW.
        """
        with self._restoring:
            before, now = self._redis_run_id, run_id(self._store.redis)
            if before not in ("", now):
                log.warning("Redis has restarted; what it may have forgotten is sent again")
                held = self._jobs.held
                with self._lock:
                    ended = list(self._ended)
                for job in {job.id: job for job in [*held, *(job for _, job in ended)]}.values():
                    self._restore(job)
                with self._lock:  # not before all are restored; each comes back when its end is confirmed again
                    self._ended = deque(one for one in self._ended if one not in ended)
            self._redis_run_id = now
        return before not in ("", now)

    def make_anew(self, job: ClaimedJob) -> None:
        """Restore a job whose record is gone. Raises: NOT_NOW."""
        log.warning("job %s: its record is gone, making it anew", job.id, extra=job.job.log_ids)
        self._restore(job)

    def give_back(self, job: JobHead, cause: Cause) -> None:
        """Return a job to its queue. If Redis is away, the keeper does it later."""
        try:
            give_back(self._store, self._celery, job, cause)
        except NOT_NOW as error:
            log.warning("job %s: not released (%s); the keeper will find it", job.id, error, extra=job.log_ids)

    def _restore(self, job: ClaimedJob) -> None:
        """Restore a job in Redis, with all its events of this claim. Raises: NOT_NOW."""
        with self._jobs.bulkhead(job):
            self._store.restore(job.job, owner=self._jobs.owner)
            job.rewind(job.first_seq - 1)
            self._jobs.touch(job)
