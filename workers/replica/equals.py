"""Leaves a begun answer to a replica whose weights have made its beginning, if there is one."""

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
from gateway.queue.queues import Priority, enqueue_or_leave_to_keeper, replica_queue

log = logging.getLogger(__name__)

#: How often one worker leaves the same job to others. The keeper brings it back if they don't take it.
TIMES = 3
#: Pause before the others are told: they may listen to the same queue as we.
PAUSE_S = 0.2
#: Jobs that are remembered.
REMEMBERED = 1000


class EqualWeights:
    """The choice of one worker of a model, which it makes before it claims."""

    def __init__(self, *, store: JobStore, registry: Registry, celery: Celery) -> None:
        self._store = store
        self._registry = registry
        self._celery = celery
        #: How often jobs were left. Each of Celery's threads counts here.
        self._left: dict[str, int] = {}
        self._lock = threading.Lock()

    def leave(self, job: JobHead, weights: str) -> bool:
        """Whether a job was left to others, since they have the weights that it was begun with, and not `weights`."""
        if not job.seq or self._left.get(job.id, 0) >= TIMES:
            return False
        try:
            begun_with = last_weights(self._store.journals.read(job.id))
        except Unreadable:
            return False  # whoever claims it says so
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
        log.info("job %s: left to %s, which has the weights that it was begun with", job.id, equal[0].replica_id)
        time.sleep(PAUSE_S)
        queue = replica_queue(equal[0].node, equal[0].device, job.runs_on)
        enqueue_or_leave_to_keeper(self._celery, job.id, place=job.runs_on, queue=queue, priority=Priority.RECOVERED)
        return True
