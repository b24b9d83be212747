"""What a replica says of itself: one record, which several threads change and send. Knows no engine and no job."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from gateway.cluster.desired import ReplicaSpec
from gateway.cluster.registry import Registry, Replica, ReplicaStatus
from schemas.base.times import iso_seconds
from workers.engines.base import EngineConfig, EngineInfo
from workers.host.devices import describe_device
from workers.host.vitals import TokenRate, resident_bytes

#: Nothing comes after these: the process ends.
LAST_STATUSES = (ReplicaStatus.UNLOADING, ReplicaStatus.FAILED)


class ReplicaHeartbeat:
    """Any thread may change the record and send it: no change is lost, and what is sent later is not older."""

    def __init__(self, record: Replica, registry: Registry, *, lease_s: float) -> None:
        self._record = record
        self._registry = registry
        self._lease_s = lease_s
        self._rate = TokenRate()
        self._changing = threading.Lock()
        #: Held while the record is on its way to Redis, so that it does not overtake an older one.
        self._sending = threading.Lock()

    @property
    def record(self) -> Replica:
        """As it is now."""
        return self._record

    def update(self, **changes: Any) -> None:
        """Change fields of the record. A status that is the last one stays."""
        with self._changing:
            if self._record.status in LAST_STATUSES:
                changes.pop("status", None)
            self._record = replace(self._record, **changes)

    def note_engine(self, pid: int, info: EngineInfo) -> None:
        """An engine process has loaded the model."""
        about = {"effective": dict(info.effective), "weights": info.weights_digest}
        self.update(engine_pid=pid, loaded_at=iso_seconds(time.time()), message="", **about)

    def count(self, *, steps: int, tokens: int, sequences: int) -> None:
        """The engine has made some steps, which brought so many tokens; then it has so many sequences."""
        with self._changing:
            self._rate.add(tokens)
            self._record = replace(self._record, steps=self._record.steps + steps, sequences=sequences)

    def measure(self, children: Iterable[int], **changes: Any) -> None:
        """Note the resident memory of this process and its children, and how fast tokens come."""
        memory_bytes = resident_bytes([os.getpid(), *children])
        with self._changing:
            tokens_per_second = self._rate.per_second()
        self.update(memory_bytes=memory_bytes, tokens_per_second=tokens_per_second, **changes)

    def send(self) -> None:
        """Say that this replica lives. Raises: NOT_NOW."""
        with self._sending:
            self._registry.heartbeat(self._record, lease_s=self._lease_s)


def record_of(wanted: ReplicaSpec, incarnation: str, config: EngineConfig) -> Replica:
    """What a replica that loads says of itself at first."""
    return Replica(
        incarnation=incarnation,
        replica_id=wanted.replica_id,
        model=wanted.model,
        node=wanted.node,
        device=wanted.device,
        status=ReplicaStatus.LOADING,
        pid=os.getpid(),
        engine=config.engine,
        hardware=describe_device(wanted.device).hardware,
        max_batch_size=config.max_batch_size,
        quantization=wanted.quantization,
        deployment_id=wanted.deployment_id,
    )
