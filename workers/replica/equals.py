"""Leaves a started answer to a replica with the same weights that made its beginning, if there is one."""

from __future__ import annotations

import logging
import threading
import time

from celery import Celery

from gateway.cluster.registry import Registry, ReplicaStatus
from gateway.errors import Unreadable
from gateway.jobs.record import JobHead
from gateway.jobs.resume_point import last_weights
from gateway.jobs.store import JobStore
from gateway.queue.enqueue import enqueue_or_leave_to_keeper
from gateway.queue.names import Priority, replica_queue

log = logging.getLogger(__name__)

#: How often one worker leaves the same job to others. If they don't take it, the keeper sends its message again.
TIMES = 3
#: Pause before the other replica is woken up.
PAUSE_S = 0.2
#: How many jobs are remembered.
REMEMBERED = 1000


class EqualWeights:
    """Decides, before a claim, whether to leave a job to another replica."""

    def __init__(self, *, store: JobStore, registry: Registry, celery: Celery) -> None:
        self._store = store
        self._registry = registry
        self._celery = celery
        #: How often each job was left. Shared by Celery's threads.
        self._left: dict[str, int] = {}
        self._lock = threading.Lock()

    def leave(self, job: JobHead, weights: str) -> bool:
        """Leave a job to a replica with the weights of its beginning, unless `weights` are these. Returns whether."""
        if not job.seq or self._left.get(job.id, 0) >= TIMES:
            return False
        try:
            begun_with = last_weights(self._store.journals.read(job.id))
        except Unreadable:
            return False  # the claim will report that
        if begun_with in ("", weights):
            return False
        replicas = self._registry.replicas(job.runs_on)
        equal = [r for r in replicas if r.status == ReplicaStatus.ACTIVE and r.weights == begun_with]
        if not equal:
            return False
        with self._lock:
            self._left[job.id] = self._left.get(job.id, 0) + 1
            while len(self._left) > REMEMBERED:
                self._left.pop(next(iter(self._left)))
        log.info(
            "job %s: left to %s, which has the weights that it was begun with",
            job.id,
            equal[0].replica_id,
            extra=job.log_ids,
        )
        time.sleep(PAUSE_S)
        queue = replica_queue(equal[0].node, equal[0].device, job.runs_on)
        enqueue_or_leave_to_keeper(
            self._celery, job.id, queue_key=job.runs_on, queue=queue, priority=Priority.RECOVERED
        )
        return True
