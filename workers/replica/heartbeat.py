"""The heartbeat record of a replica, which several threads change and send. Knows no engine and no job."""

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
from workers.engines.steps import StepFrame
from workers.host.devices import describe_device
from workers.host.vitals import TokenRate, resident_bytes

#: Final statuses: the process ends.
LAST_STATUSES = (ReplicaStatus.UNLOADING, ReplicaStatus.FAILED)


class ReplicaHeartbeat:
    """Thread-safe: no change is lost, and no older record is sent after a newer one."""

    def __init__(self, record: Replica, registry: Registry, *, lease_s: float) -> None:
        self._record = record
        self._registry = registry
        self._lease_s = lease_s
        self._rate = TokenRate()
        self._changing = threading.Lock()
        #: Held while the record is sent, so that records arrive in order.
        self._sending = threading.Lock()

    @property
    def record(self) -> Replica:
        """The present record."""
        return self._record

    def update(self, **changes: Any) -> None:
        """Change fields of the record. A final status stays."""
        with self._changing:
            if self._record.status in LAST_STATUSES:
                changes.pop("status", None)
            self._record = replace(self._record, **changes)

    def note_engine(self, pid: int, info: EngineInfo) -> None:
        """Note that an engine process has loaded the model."""
        about = {"effective": dict(info.effective), "weights": info.weights_digest}
        self.update(engine_pid=pid, loaded_at=iso_seconds(time.time()), message="", **about)

    def count(self, frame: StepFrame, *, tokens: int) -> None:
        """Count steps of the engine and their tokens, and note its load."""
        with self._changing:
            self._rate.add(tokens)
            self._record = replace(
                self._record,
                steps=self._record.steps + frame.steps,
                step_s=self._record.step_s + frame.steps_s,
                sequences=frame.sequences,
                kv_used_tokens=frame.kv_used_tokens,
            )

    def measure(self, children: Iterable[int], **changes: Any) -> None:
        """Note the resident memory of this process and its children, and the token rate."""
        memory_bytes = resident_bytes([os.getpid(), *children])
        with self._changing:
            tokens_per_second = self._rate.per_second()
        self.update(memory_bytes=memory_bytes, tokens_per_second=tokens_per_second, **changes)

    def send(self) -> None:
        """Send the heartbeat. Raises: NOT_NOW."""
        with self._sending:
            self._registry.heartbeat(self._record, lease_s=self._lease_s)


def record_of(spec: ReplicaSpec, incarnation: str, config: EngineConfig) -> Replica:
    """The first record of a replica, while it loads."""
    return Replica(
        incarnation=incarnation,
        replica_id=spec.replica_id,
        model=spec.model,
        node=spec.node,
        device=spec.device,
        status=ReplicaStatus.LOADING,
        pid=os.getpid(),
        engine=config.engine,
        hardware=describe_device(spec.device).hardware,
        max_batch_size=config.max_batch_size,
        quantization=spec.quantization,
        deployment_id=spec.deployment_id,
        pulls=True,
    )
