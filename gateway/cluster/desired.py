"""The desired state: the specs of the replicas that each device should run, kept in Redis.

Deployments write it; agents make it true, also after a restart. A replica that is not in it ends.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any, cast

import redis

from gateway.cluster import by_model
from gateway.errors import Unreadable
from gateway.models.entry import Model
from gateway.models.footprint import UNSTATED_CONTEXT
from gateway.queue.names import slug
from gateway.store import keys
from gateway.store.codec import dumps, load_as
from gateway.store.connection import pipeline
from gateway.store.unreadable import leaving_out, readable, reading


class SpecState(StrEnum):
    """What an agent should do with a replica."""

    RUNNING = "up"
    #: It was idle for too long. The next request wakes it.
    ASLEEP = "asleep"
    #: It could not be started. It is not tried again until the next deployment.
    FAILED = "failed"


@dataclass(frozen=True)
class ReplicaSpec:
    """One replica that should run on one device, and its options.

    `state` is one of `SpecState`; `failure` says why it has failed.
    """

    replica_id: str
    model: str
    node: str
    device: str
    #: The deployment that added it; empty if none did.
    deployment_id: str = ""
    quantization: str = ""
    max_batch_size: int = 0
    context_length: int = 0
    tensor_parallel_size: int = 1
    use_flash_attention: bool = True
    use_kv_cache: bool = True
    cpu_offload: bool = False
    #: It is unloaded after this time without a request, and woken by the next one; 0 = never.
    idle_unload_s: float = 0.0
    #: It was loaded for a request, not by somebody who wants it to stay: it is removed instead of put to sleep.
    on_demand: bool = False
    #: Options of the engine; they override those of the catalog.
    options: Mapping[str, Any] = field(default_factory=dict)
    state: str = SpecState.RUNNING
    failure: Mapping[str, str] = field(default_factory=dict)

    @property
    def address(self) -> tuple[str, str]:
        """Node and device."""
        return self.node, self.device

    @property
    def member(self) -> str:
        """As it stands in the set of its model."""
        return f"{self.node} {self.device} {self.replica_id}"

    @property
    def may_rest(self) -> bool:
        """Whether it may be unloaded when nobody uses it, and others need its memory."""
        return self.on_demand or self.idle_unload_s > 0

    def in_full(self, model: Model, max_batch_size: int, context_length: int = 0) -> ReplicaSpec:
        """A copy with the defaults filled in: the model's options, `max_batch_size`, and the `context_length` of its
        files.
        """
        return replace(
            self,
            quantization=self.quantization or "none",
            max_batch_size=self.max_batch_size or max_batch_size,
            context_length=self.context_length or model.context_length or context_length or UNSTATED_CONTEXT,
            options={**model.options, **self.options},
        )


def replica_id(model: str, node: str, device: str, suffix: str = "") -> str:
    """A unique name for a replica that can be used in the names of queues, files and workers."""
    return f"{slug(model)}.{slug(node)}.{slug(device)}{f'.{suffix}' if suffix else ''}"


class Desired:
    """Reads and writes the desired state."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client

    def put(self, *specs: ReplicaSpec) -> None:
        """Add replicas, or replace their specs."""
        pipe = self._redis.pipeline(transaction=True)
        for one in specs:
            pipe.sadd(keys.DESIRED_DEVICES, f"{one.node} {one.device}")
            pipe.sadd(keys.desired_of(one.model), one.member)
            pipe.hset(keys.desired(one.node, one.device), one.replica_id, dumps(asdict(one)))
        pipe.execute()

    def drop(self, specs: Iterable[ReplicaSpec]) -> None:
        """Remove replicas: their workers end when their requests have."""
        pipe = self._redis.pipeline(transaction=True)
        for one in specs:
            pipe.hdel(keys.desired(one.node, one.device), one.replica_id)
            pipe.srem(keys.desired_of(one.model), one.member)
        pipe.execute()

    def change(self, spec: ReplicaSpec, **changes: Any) -> bool:
        """Change one replica if its spec in Redis is still the given one. Returns whether it was."""
        return self._exchange(spec, replace(spec, **changes))

    def rest(self, spec: ReplicaSpec) -> bool:
        """The same to end one that nobody uses: it sleeps, or is removed if it was loaded on demand."""
        return self._exchange(spec, None if spec.on_demand else replace(spec, state=SpecState.ASLEEP))

    def ask_to_rest(self, name: str, *, idle_s: float, for_s: float) -> None:
        """Ask a replica to end, since its memory is needed, if nobody has used it for `idle_s`, as its heartbeat said.
        It may look within `for_s` seconds.
        """
        self._redis.set(keys.to_rest(name), f"{idle_s:.3f}", px=int(for_s * 1000))

    def asked_to_rest(self, name: str) -> float:
        """For how long nobody must have used a replica so that it makes room; infinite: it need not."""
        (raw,) = pipeline(self._redis, [("GET", keys.to_rest(name))])
        try:
            return float(raw) if raw else math.inf
        except ValueError:
            return math.inf

    def _exchange(self, spec: ReplicaSpec, other: ReplicaSpec | None) -> bool:
        """Put another spec in the place of one, or none, if that is still there."""
        name = keys.desired(spec.node, spec.device)
        with self._redis.pipeline() as pipe:
            try:
                pipe.watch(name)
                raw = pipe.hget(name, spec.replica_id)
                # Compared as parsed, since another version may write the same spec as other JSON.
                if not raw or _read(str(raw)) != spec:
                    return False
                pipe.multi()
                if other is None:
                    pipe.hdel(name, spec.replica_id)
                    pipe.srem(keys.desired_of(spec.model), spec.member)
                else:
                    pipe.hset(name, spec.replica_id, dumps(asdict(other)))
                pipe.execute()
            except (redis.exceptions.WatchError, Unreadable):
                return False
        return True

    def wake(self, model: str) -> None:
        """Start the sleeping replicas of a model again. Idempotent."""
        for one in self.all(model):
            if one.state == SpecState.ASLEEP:
                self.change(one, state=SpecState.RUNNING)

    def on(self, node: str, device: str) -> dict[str, ReplicaSpec | None]:
        """The specs of one device by replica id; None for one that can't be read: that replica is left as it is."""
        (raw,) = pipeline(self._redis, [("HGETALL", keys.desired(node, device))])
        found: dict[str, ReplicaSpec | None] = dict.fromkeys(raw)
        for name, value in raw.items():
            with leaving_out(_named(node, device, name)):
                found[name] = _read(value)
        return found

    def get(self, node: str, device: str, name: str) -> ReplicaSpec | None:
        """The spec of one replica; None if there is none. Raises: Unreadable."""
        with reading(_named(node, device, name)):
            (raw,) = pipeline(self._redis, [("HGET", keys.desired(node, device), name)])
            return _read(raw) if raw else None

    def all(self, model: str | None = None) -> list[ReplicaSpec]:
        """The specs of all devices, of one model or of all."""
        names = by_model.members(self._redis, keys.desired_of(model)) if model is not None else None
        if model is None or names is None:
            return [spec for spec in self._all() if model in (None, spec.model)]
        reads = [("HGET", keys.desired(node, device), replica) for node, device, replica in map(_place, names)]
        return self.of_values(model, list(zip(names, pipeline(self._redis, reads, raise_on_error=False), strict=True)))

    def of_values(self, model: str, values: Sequence[tuple[str, Any]]) -> list[ReplicaSpec]:
        """The specs of a model with these values, by the members of its set. Those without one are forgotten."""
        for member in [member for member, value in values if value is None]:
            self._forget(model, member)
        named = [(_named(*_place(member)), value) for member, value in values if value is not None]
        return [spec for _, spec in readable(named, _read) if spec.model == model]

    def _forget(self, model: str, member: str) -> None:
        """Remove from the set of a model what an older version has left there, unless the spec is there again."""
        node, device, replica = _place(member)
        name = keys.desired(node, device)
        with self._redis.pipeline() as pipe, contextlib.suppress(redis.exceptions.WatchError):
            pipe.watch(name)
            if not pipe.hexists(name, replica):
                pipe.multi()
                pipe.srem(keys.desired_of(model), member)
                pipe.execute()

    def _all(self) -> list[ReplicaSpec]:
        members = cast("set[str]", self._redis.smembers(keys.DESIRED_DEVICES))
        addresses = [member.split(" ", 1) for member in sorted(members) if " " in member]
        hashes = [("HGETALL", keys.desired(node, device)) for node, device in addresses]
        found: list[ReplicaSpec] = []
        for (node, device), raw in zip(addresses, pipeline(self._redis, hashes, raise_on_error=False), strict=True):
            with leaving_out(f"The desired state of {node}.{device}"):
                if isinstance(raw, Exception):
                    raise raw
                named = [(_named(node, device, name), value) for name, value in raw.items()]
                found += [spec for _, spec in readable(named, _read)]
        return found

    def of_deployment(self, model: str, deployment_id: str) -> list[ReplicaSpec]:
        """The specs that a deployment of a model added and that are still there."""
        return [spec for spec in self.all(model) if spec.deployment_id == deployment_id]


def _place(member: str) -> tuple[str, str, str]:
    """Node, device and replica id; what is no member of ours names a replica that is not there."""
    node, _, rest = member.partition(" ")
    device, _, name = rest.partition(" ")
    return node, device, name


def _named(node: str, device: str, name: str) -> str:
    return f"The spec of replica {name} on {node}.{device}"


def _read(raw: str) -> ReplicaSpec:
    spec = load_as(ReplicaSpec, raw)
    if spec.state not in set(SpecState):
        raise Unreadable(f"The state is {spec.state!r:.80}.")
    return spec
