"""Heartbeats: which workers are alive. Each is one key with a TTL whose value is the worker's own record."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from functools import partial
from typing import Any, TypeVar, cast

import redis

from gateway.cluster import by_model
from gateway.models.devices import DeviceName
from gateway.queue.names import lists, wake_queue
from gateway.store import keys
from gateway.store.codec import dumps, load_as
from gateway.store.connection import pipeline
from gateway.store.joined import Command
from gateway.store.unreadable import leaving_out, readable

Worker = TypeVar("Worker")

#: The set of a model's replicas goes when none has sent a heartbeat for so long.
OF_MODEL_MS = 3_600_000


@dataclass(frozen=True)
class ProviderWorker:
    """One provider worker incarnation. `credentials` names the providers whose key it has, never the key."""

    incarnation: str
    node: str
    pid: int
    running: int = 0
    credentials: tuple[str, ...] = ()
    #: It asks for its jobs, and need not be sent each of them.
    pulls: bool = False


@dataclass(frozen=True)
class Device:
    """One agent incarnation, and the device that it serves. Memory is in bytes, of the device itself."""

    incarnation: str
    node: str
    device: str
    pid: int
    hardware: str = ""
    memory_total: int = 0
    memory_free: int = 0
    #: What a new replica may take, where it was planned: what is free, and what idle replicas would make free for it.
    available_bytes: int = 0
    #: Engines, and tools of theirs, that are installed there.
    engines: tuple[str, ...] = ()
    #: Whether its agent has looked which models' files it has.
    inspected: bool = True
    #: Of Headrace.
    version: str = ""
    #: The address from which it reaches Redis; empty over a socket.
    host: str = ""
    #: Those of its settings.
    labels: Mapping[str, str] = field(default_factory=dict)
    #: When it was like this, in ms since the epoch.
    seen_ms: int = 0

    @property
    def name(self) -> str:
        """`node.device`, as `target_nodes` may name it."""
        return f"{self.node}.{self.device}"

    @property
    def address(self) -> tuple[str, str]:
        """Node and device."""
        return self.node, self.device

    @property
    def kind(self) -> str:
        """`cpu` or `cuda`."""
        return DeviceName.parse(self.device).kind

    def has(self, names: Iterable[str]) -> bool:
        """Whether these engines and tools are installed there."""
        return set(names) <= set(self.engines)


class ReplicaStatus(StrEnum):
    """The state of a replica, as its worker reports it."""

    LOADING = "loading"
    ACTIVE = "active"
    FAILED = "failed"
    #: It finishes its last requests and takes no new ones.
    UNLOADING = "unloading"


class Health(StrEnum):
    """Whether a component is healthy. A replica that is not shows its status, or one of these."""

    HEALTHY = "healthy"
    #: Its engine has work, but makes no step.
    STALLED = "stalled"
    #: Its consumer took messages before, and does so no more.
    DEAF = "deaf"


@dataclass(frozen=True)
class Replica:
    """One model worker incarnation. `steps` counts engine steps; `status` is one of `ReplicaStatus`."""

    incarnation: str
    replica_id: str
    model: str
    node: str
    device: str
    status: str
    pid: int
    engine_pid: int = 0
    engine: str = ""
    max_batch_size: int = 0
    sequences: int = 0
    #: Tokens of the KV cache that are taken; 0: the engine has none, or does not tell.
    kv_used_tokens: int = 0
    steps: int = 0
    #: How long all of them took, in seconds.
    step_s: float = 0.0
    tokens_per_second: float = 0.0
    memory_bytes: int = 0
    loaded_at: str = ""
    message: str = ""
    hardware: str = ""
    quantization: str = ""
    #: Digest of the weights; empty until they are loaded.
    weights: str = ""
    #: The deployment that added it.
    deployment_id: str = ""
    #: What was planned before it was loaded; see `gateway/deployments/memory.py`.
    planned_bytes: int = 0
    #: The effective options.
    effective: Mapping[str, Any] = field(default_factory=dict)
    #: The engine has work, but makes no step.
    stalled: bool = False
    #: Its consumer took messages before, and does so no more.
    deaf: bool = False
    #: It asks for its jobs, and need not be sent each of them.
    pulls: bool = False
    #: Slots that interactive and background jobs hold; those that they get while some of them wait (a mean over the
    #: last seconds; -1: not measured); and for how long such a job holds them (a mean, in slots x seconds).
    held: int = 0
    background_held: int = 0
    gets: float = -1.0
    background_gets: float = -1.0
    slot_s: float = 0.0
    background_slot_s: float = 0.0
    #: For how long it has had no job, in seconds; negative: it has some, or does not say.
    idle_s: float = -1.0

    @property
    def health(self) -> str:
        """One of `Health`, or the status of a replica that is not active."""
        if self.stalled or self.deaf:
            return Health.STALLED if self.stalled else Health.DEAF
        return Health.HEALTHY if self.status == ReplicaStatus.ACTIVE else self.status


@dataclass(frozen=True)
class KeeperState:
    """The keeper's own report."""

    #: Duration of its last round.
    round_s: float = 0.0
    #: It recovers lost jobs. False for a while after Redis was away or its clock has jumped.
    trusted: bool = True
    #: What Redis does for the durability of jobs, and whether it may drop some.
    durability: str = ""
    evicts: bool = False


#: Workers' heartbeats by incarnation: JSON, None if it is gone, or an error in its place.
Beats = Sequence[tuple[str, Any]]


class Registry:
    """Reads and writes heartbeats."""

    def __init__(self, client: redis.Redis) -> None:
        self.redis = client

    def heartbeat(self, replica: Replica, *, lease_s: float) -> None:
        """Write the heartbeat of one incarnation, which counts as alive for the next `lease_s` seconds."""
        self._beat(keys.WORKERS, replica, lease_s)

    def beat_provider(self, worker: ProviderWorker, *, lease_s: float) -> None:
        """The same for a provider worker."""
        self._beat(keys.PROVIDERS, worker, lease_s)

    def beat_device(self, device: Device, *, lease_s: float) -> None:
        """The same for an agent."""
        self._beat(keys.DEVICES, device, lease_s)

    def beat_keeper(self, state: KeeperState, *, lease_s: float) -> None:
        """The same for the keeper."""
        self.redis.set(keys.KEEPER, dumps(asdict(state)), px=int(lease_s * 1000))

    def keeper(self) -> KeeperState | None:
        """The keeper's report; None if there is no keeper, or its report can't be read."""
        with leaving_out("The heartbeat of the keeper"):
            value = cast("str | None", self.redis.get(keys.KEEPER))
            if value == "1":  # written by an older version
                return KeeperState()
            return load_as(KeeperState, value) if value else None
        return None

    def devices(self) -> list[Device]:
        """All devices with a living agent."""
        return self._living(keys.DEVICES, Device)

    def providers(self) -> list[ProviderWorker]:
        """All living provider workers."""
        return self._living(keys.PROVIDERS, ProviderWorker)

    def deregister(self, incarnation: str) -> None:
        """Remove the heartbeat of a worker known to be dead, so that its jobs are recovered at once.

        A replica is told of no more jobs, and what it was told is gone.
        """
        for replica in self.replicas_among([incarnation]) if self.redis.sismember(keys.WORKERS, incarnation) else ():
            queue = wake_queue(replica.replica_id)
            self.redis.zrem(keys.openings(replica.model), queue)
            self.redis.srem(keys.workers_of(replica.model), incarnation)
            self.redis.delete(*lists(queue))
        self.redis.delete(keys.worker(incarnation))
        self.redis.srem(keys.WORKERS, incarnation)
        self.redis.srem(keys.PROVIDERS, incarnation)
        self.redis.srem(keys.DEVICES, incarnation)

    def alive(self, incarnations: Iterable[str]) -> set[str]:
        """The incarnations that have a heartbeat."""
        wanted = list(dict.fromkeys(incarnations))
        if not wanted:
            return set()
        there = pipeline(self.redis, [("EXISTS", keys.worker(name)) for name in wanted])
        return {name for name, found in zip(wanted, there, strict=True) if found}

    def replicas(self, model: str | None = None) -> list[Replica]:
        """All living replicas, or those of one model."""
        if model is None:
            return self._living(keys.WORKERS, Replica)
        names = by_model.members(self.redis, keys.workers_of(model))
        if names is None:
            return [replica for replica in self.replicas() if replica.model == model]
        return self.of_beats(model, self._values(names))

    def of_beats(self, model: str, beats: Beats) -> list[Replica]:
        """The replicas of a model with these heartbeats. Those without one are forgotten."""
        return [replica for replica in self._parsed(beats, Replica, keys.workers_of(model)) if replica.model == model]

    def replicas_among(self, incarnations: Sequence[str]) -> list[Replica]:
        """The living ones of these replicas."""
        return self._parsed(self._values(incarnations), Replica)

    def is_alone(self, model: str) -> bool:
        """Whether a model has one replica at most. One that has just died may count, and none that lives is left out.

        Costs the same however many there are.
        """
        found = by_model.count(self.redis, keys.workers_of(model))
        return (len(self.replicas(model)) if found is None else found) <= 1

    def _beat(self, index: str, worker: Replica | ProviderWorker | Device, lease_s: float) -> None:
        # First the heartbeat: who finds a name without one removes it.
        beat = ("SET", keys.worker(worker.incarnation), dumps(asdict(worker)), "PX", int(lease_s * 1000))
        commands: list[Command] = [beat, ("SADD", index, worker.incarnation)]
        if isinstance(worker, Replica):
            of_model = keys.workers_of(worker.model)
            commands += [("SADD", of_model, worker.incarnation), ("PEXPIRE", of_model, OF_MODEL_MS)]
        pipeline(self.redis, commands)

    def _living(self, index: str, kind: type[Worker]) -> list[Worker]:
        """The heartbeats of all workers of one kind."""
        return self._parsed(self._values(sorted(pipeline(self.redis, [("SMEMBERS", index)])[0])), kind, index)

    def _values(self, names: Sequence[str]) -> Beats:
        """The heartbeats of these workers, or what is in their place."""
        values = pipeline(self.redis, [("GET", keys.worker(name)) for name in names], raise_on_error=False)
        return list(zip(names, values, strict=True))

    def _parsed(self, beats: Beats, kind: type[Worker], *indexes: str) -> list[Worker]:
        """The workers with these heartbeats. Those without one are removed from the indexes."""
        gone = [name for name, value in beats if value is None]
        for index in indexes if gone else ():
            self.redis.srem(index, *gone)
        payloads = [(f"The heartbeat of {name}", value) for name, value in beats if value is not None]
        return [worker for _, worker in readable(payloads, partial(load_as, kind))]
