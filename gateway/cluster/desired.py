"""The replicas that should be there, whatever happens: the desired state, kept in Redis for each device.

Agents make it so, and bring it back after any restart. Deployments write it; whatever is not in it, ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any, cast

import redis

from gateway.errors import Unreadable
from gateway.models.entry import Model
from gateway.queue.names import slug
from gateway.store import keys
from gateway.store.codec import dumps, load_as
from gateway.store.connection import pipeline
from gateway.store.unreadable import leaving_out, readable, reading


class SpecState(StrEnum):
    """What becomes of a replica that is wanted."""

    RUNNING = "up"
    #: It was idle for too long; the next request wakes it.
    ASLEEP = "asleep"
    #: Nobody tries again until it is deployed anew.
    FAILED = "failed"


@dataclass(frozen=True)
class ReplicaSpec:
    """One replica that should live on one device, and how.

    `state` is one of `SpecState`; `failure` says why it has failed.
    """

    replica_id: str
    model: str
    node: str
    device: str
    #: The deployment that wants it; empty if it was none.
    deployment_id: str = ""
    quantization: str = ""
    max_batch_size: int = 0
    context_length: int = 0
    tensor_parallel_size: int = 1
    use_flash_attention: bool = True
    use_kv_cache: bool = True
    cpu_offload: bool = False
    #: Without a request for so long it is unloaded until the next one; 0 = never.
    idle_unload_s: float = 0.0
    #: For the engine, over those of the catalog.
    options: Mapping[str, Any] = field(default_factory=dict)
    state: str = SpecState.RUNNING
    failure: Mapping[str, str] = field(default_factory=dict)

    @property
    def address(self) -> tuple[str, str]:
        """Node and device."""
        return self.node, self.device

    def in_full(self, model: Model, max_batch_size: int) -> ReplicaSpec:
        """With what it leaves open: the model's own, and the size of a batch where nobody asks for another."""
        return replace(
            self,
            quantization=self.quantization or "none",
            max_batch_size=self.max_batch_size or max_batch_size,
            context_length=self.context_length or model.context_length,
            options={**model.options, **self.options},
        )


def replica_id(model: str, node: str, device: str, suffix: str = "") -> str:
    """A name for a replica that is unique, and safe in queues, files and worker names."""
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
            pipe.hset(keys.desired(one.node, one.device), one.replica_id, dumps(asdict(one)))
        pipe.execute()

    def drop(self, specs: Iterable[ReplicaSpec]) -> None:
        """Remove replicas: their workers end when their requests have."""
        pipe = self._redis.pipeline(transaction=True)
        for one in specs:
            pipe.hdel(keys.desired(one.node, one.device), one.replica_id)
        pipe.execute()

    def change(self, spec: ReplicaSpec, **changes: Any) -> bool:
        """Change one replica, if it is still wanted just as it was. False if it is not."""
        name = keys.desired(spec.node, spec.device)
        with self._redis.pipeline() as pipe:
            try:
                pipe.watch(name)
                raw = pipe.hget(name, spec.replica_id)
                # Another version may have written the same in other words.
                if not raw or _read(str(raw)) != spec:
                    return False
                pipe.multi()
                pipe.hset(name, spec.replica_id, dumps(asdict(replace(spec, **changes))))
                pipe.execute()
            except (redis.exceptions.WatchError, Unreadable):
                return False
        return True

    def wake(self, model: str) -> None:
        """Want those replicas of a model again that sleep. Once is as good as many times."""
        for one in self.all(model):
            if one.state == SpecState.ASLEEP:
                self.change(one, state=SpecState.RUNNING)

    def on(self, node: str, device: str) -> dict[str, ReplicaSpec | None]:
        """What one device should hold, by replica id; None for what can't be read, and is to be left as it is."""
        (raw,) = pipeline(self._redis, [("HGETALL", keys.desired(node, device))])
        found: dict[str, ReplicaSpec | None] = dict.fromkeys(raw)
        for name, value in raw.items():
            with leaving_out(_named(node, device, name)):
                found[name] = _read(value)
        return found

    def get(self, node: str, device: str, name: str) -> ReplicaSpec | None:
        """One replica of a device, if it is wanted. Raises: Unreadable."""
        with reading(_named(node, device, name)):
            (raw,) = pipeline(self._redis, [("HGET", keys.desired(node, device), name)])
            return _read(raw) if raw else None

    def all(self, model: str | None = None) -> list[ReplicaSpec]:
        """What all devices should hold, of one model or of all."""
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
        return [spec for spec in found if model in (None, spec.model)]

    def of_deployment(self, deployment_id: str) -> list[ReplicaSpec]:
        """What a deployment has added, as far as it is still wanted."""
        return [spec for spec in self.all() if spec.deployment_id == deployment_id]


def _named(node: str, device: str, name: str) -> str:
    return f"The spec of replica {name} on {node}.{device}"


def _read(raw: str) -> ReplicaSpec:
    spec = load_as(ReplicaSpec, raw)
    if spec.state not in set(SpecState):
        raise Unreadable(f"The state is {spec.state!r:.80}.")
    return spec
