"""Notes every half a minute what is, and what has been counted, as a point of the last hour."""

from __future__ import annotations

import time
from dataclasses import asdict

from gateway.cluster.registry import Registry, ReplicaStatus
from gateway.inference.backlog import backlogs
from gateway.jobs.store import JobStore
from gateway.metrics.counts import read_counts
from gateway.metrics.history import EVERY_S, Counted, History, Point
from gateway.models.catalog import Catalog


class Recorder:
    """Adds the points, unless another keeper does."""

    def __init__(self, store: JobStore, registry: Registry, catalog: Catalog) -> None:
        self._store = store
        self._registry = registry
        self._catalog = catalog
        self._history = History(store.redis)
        self._next_s = 0.0

    def step(self) -> None:
        """Add a point if it is time. Raises: NOT_NOW."""
        if time.monotonic() >= self._next_s and self._history.take_turn():
            self._next_s = time.monotonic() + EVERY_S
            self._history.add(self._now())

    def _now(self) -> Point:
        waiting = backlogs(self._store, [model.id for model in self._catalog if not model.base]).values()
        replicas = self._registry.replicas()
        active = [replica for replica in replicas if replica.status == ReplicaStatus.ACTIVE]
        return Point(
            **asdict(Counted.of(read_counts(self._store.redis))),
            at_ms=self._store.clock.now_ms(),
            tokens_per_second=round(sum(replica.tokens_per_second for replica in replicas), 1),
            running=sum(replica.held + replica.background_held for replica in active),
            slots=sum(replica.max_batch_size for replica in active),
            interactive=sum(backlog.interactive.waiting for backlog in waiting),
            background=sum(backlog.background.waiting for backlog in waiting),
        )
