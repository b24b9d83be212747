"""Returns running jobs to their queue: released by their worker, or recovered from a dead one."""

from __future__ import annotations

import logging
from collections.abc import Collection
from pathlib import Path

from celery import Celery

from gateway.cluster.registry import Registry
from gateway.jobs.record import Cause, JobHead, JobState
from gateway.jobs.store import JobStore
from gateway.process.locks import Holder, crash_of
from gateway.queue.enqueue import tell
from gateway.queue.names import Priority

log = logging.getLogger(__name__)

#: Suffix of the incarnation of a worker that runs a single quarantined job.
ALONE = ".alone"


def give_back(store: JobStore, celery: Celery, job: JobHead, cause: Cause) -> bool:
    """Release a job if its claim still holds, and wake up another worker. Raises: NOT_NOW."""
    released = store.release(job, cause)
    if not released:
        return False
    level = logging.DEBUG if cause is Cause.PREEMPTED else logging.WARNING
    log.log(level, "job %s: given back to its queue (%s)", job.id, cause, extra=job.log_ids)
    if released.wakes or cause is not Cause.PREEMPTED:  # whoever has a free slot takes that one up again
        tell(celery, released.wakes, job.id, queue_key=job.runs_on, priority=Priority.RECOVERED)
    return True


def cause_of_death(data_dir: Path, lock: str, last: Holder) -> Cause:
    """Why the last holder of a lock died, as far as it concerns its jobs."""
    crash = crash_of(data_dir, lock, last)
    if not crash:
        return Cause.LOST
    log.error("worker %s has ended of itself: %s", last.incarnation, crash)
    return Cause.CRASHED_ALONE if ALONE in last.incarnation else Cause.CRASHED


def reclaim_jobs_of(store: JobStore, celery: Celery, incarnation: str, cause: Cause) -> None:
    """Release the jobs of a worker known to be dead, without waiting for its heartbeat to expire. Raises: NOT_NOW."""
    Registry(store.redis).deregister(incarnation)
    for job in held_by(store, incarnation):
        give_back(store, celery, job, cause)


def held_by(store: JobStore, owner: str, *, without: Collection[str] = (), itself: bool = False) -> list[JobHead]:
    """The running jobs that a worker owns, except `without`. `itself`: it is the one that asks. Raises: NOT_NOW."""
    ids = [job_id for job_id in store.held_by(owner, itself=itself) if job_id not in without]
    found = store.heads(ids).values()
    return [job for job in found if job and job.state is JobState.RUNNING and job.owner == owner]
