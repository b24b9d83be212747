"""Watches whether a replica is still desired, and used. Knows no engine and no job."""

from __future__ import annotations

import logging
import math
import time
from pathlib import Path

import redis

from gateway.cluster.desired import Desired, ReplicaSpec, SpecState
from gateway.cluster.registry import ReplicaStatus
from gateway.errors import Unreadable
from gateway.store import keys
from gateway.store.installation import Installation
from gateway.store.unreadable import note
from workers.replica.heartbeat import ReplicaHeartbeat
from workers.replica.lifetime import Lifetime

log = logging.getLogger(__name__)


class DesiredWatch:
    """Compares one replica with the desired state. Only the emitter's thread calls `check`."""

    def __init__(
        self, client: redis.Redis, data_dir: Path, spec: ReplicaSpec, heartbeat: ReplicaHeartbeat, life: Lifetime
    ) -> None:
        self._redis = client
        self._spec = spec
        self._heartbeat = heartbeat
        self._life = life
        self._desired = Desired(client)
        self._installation = Installation(client, data_dir)
        self._used_at = time.monotonic()

    def note_use(self) -> None:
        """Note that it is in use now."""
        self._used_at = time.monotonic()

    @property
    def idle_s(self) -> float:
        """For how long it has not been in use."""
        return time.monotonic() - self._used_at

    def check(self, *, busy: bool) -> None:
        """Notice that the replica is no longer desired, or unload it if it is not in use: after `idle_unload_s`, or
        when its memory is needed.

        `busy`: it has jobs. Raises: NOT_NOW.
        """
        if self._life.unwanted.is_set():
            return
        try:
            spec = self._desired.get(*self._spec.address, self._spec.replica_id)
        except Unreadable as error:
            note(self._spec.replica_id, error)
            return  # its spec can't be read: it stays
        if spec is None and self._installation.check():
            return  # the desired state is lost, which does not mean that it is undesired
        if spec is None or spec.state != SpecState.RUNNING:
            self._leave()
        elif busy or self._heartbeat.record.status != ReplicaStatus.ACTIVE:
            self.note_use()
        elif self._is_idle(spec) and self._desired.rest(spec):
            log.info("nobody has asked for %s for %.1f s; it is unloaded", spec.model, self.idle_s)
            self._leave()

    def _is_idle(self, spec: ReplicaSpec) -> bool:
        if not spec.may_rest:
            return False
        due_s = min(spec.idle_unload_s or math.inf, self._desired.asked_to_rest(spec.replica_id))
        return self.idle_s >= due_s and not self._redis.zcard(keys.queued(spec.model))

    def _leave(self) -> None:
        self._heartbeat.update(status=ReplicaStatus.UNLOADING)
        self._life.unwanted.set()
        self._life.over.set()
        self._heartbeat.send()
