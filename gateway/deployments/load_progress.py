"""How far the loading of a model is, whoever has asked for it: folded from the startup logs of its replicas."""

from __future__ import annotations

from collections.abc import Sequence

import redis

from gateway.cluster.desired import ReplicaSpec, SpecState
from gateway.cluster.durations import Durations
from gateway.cluster.loading import Loading
from gateway.cluster.startup import End, Entry, StartupLog
from gateway.deployments.views import Progress
from gateway.jobs.events import EventType
from gateway.store.cached import Cached


class LoadProgress:
    """Reads the log of each replica that a model is to have, at most twice a second."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client
        self._durations = Durations(client)
        self._found: dict[str, Cached[Loading]] = {}

    def of(self, model: str, replicas: Sequence[ReplicaSpec]) -> Loading:
        """That of the replica that will be there first. Raises: NOT_NOW."""
        return self._found.setdefault(model, Cached()).get(lambda: self._read(model, replicas))

    def _read(self, model: str, replicas: Sequence[ReplicaSpec]) -> Loading:
        expected_s = self._durations.expected(model)
        logs = [StartupLog(self._redis, one.replica_id).read() for one in replicas if one.state == SpecState.RUNNING]
        return min((_folded(log, expected_s) for log in logs or [[]]), key=lambda one: one.left_s)


def _folded(log: Sequence[Entry], expected_s: dict[str, float]) -> Loading:
    """The progress of the last start in a log. One that has succeeded stays whole until the next one begins."""
    progress, stage, is_over = Progress({}, expected_s), "", False
    for entry in log:
        if (is_over and entry.stage) or entry.end in (End.FAILED, End.GONE):
            progress, stage, is_over = Progress({}, expected_s), "", False
        if entry.stage:
            stage = entry.stage
            body = {"at": entry.at_ms, "replica": "", "stage": stage, "status": entry.status}
            progress.take(EventType.STAGE, {**body, "progress": entry.progress})
        is_over = is_over or entry.end == End.ACTIVE
    return Loading(progress.percent, stage, round(progress.left_s(), 1))
