"""Whether a device has room for a load, and which replica is to make some. Pure: sizes only, no clock, Redis or device.

A replica makes room if nobody uses it and it may be unloaded: it was loaded on demand, or has an `idle_unload_s`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from gateway.cluster.desired import ReplicaSpec, SpecState
from gateway.cluster.registry import Device, Replica, ReplicaStatus
from gateway.deployments.memory import USABLE


@dataclass(frozen=True)
class Resident:
    """A replica that has memory on a device."""

    replica_id: str
    model: str
    #: What it takes of the device, and what was planned for it, in bytes.
    memory_bytes: int
    planned_bytes: int
    on_demand: bool = False
    #: It may be unloaded while nobody uses it.
    may_rest: bool = False
    #: It is being unloaded: its memory comes back by itself.
    is_ending: bool = False
    #: For how long it has had no job; negative: it has some, or loads.
    idle_s: float = -1.0


@dataclass(frozen=True)
class Need:
    """What a load takes, in bytes: while it is loaded, and afterwards."""

    peak_bytes: int
    total_bytes: int
    #: It counts towards what models on demand may take together.
    on_demand: bool = False


@dataclass(frozen=True)
class Answer:
    """What a load is to do: go on, or wait, or ask `to_rest` and wait, or give up."""

    has_room: bool = False
    to_rest: Resident | None = None
    #: Those who have what it needs; empty if there is no such.
    waits_for: Sequence[str] = ()


def limit_bytes(limit: float, device_bytes: int) -> int:
    """What models on demand may take of a device together, as the setting says: bytes, or a share up to 1; 0: all."""
    return int(limit * device_bytes if limit <= 1 else limit)


def residents(
    device: Device,
    replicas: Iterable[Replica],
    specs: Mapping[str, ReplicaSpec],
    *,
    asked: Mapping[str, float] = MappingProxyType({}),
) -> list[Resident]:
    """Those on a device. `specs` are by replica id. `asked` were asked to rest a moment ago when they had been idle for
    so many seconds: they do, unless they were used since.
    """
    found = []
    for one in (one for one in replicas if (one.node, one.device) == device.address):
        spec = specs.get(one.replica_id)
        wanted = spec is not None and spec.state == SpecState.RUNNING
        idle_s = one.idle_s if one.status == ReplicaStatus.ACTIVE else -1.0
        rests = idle_s >= asked.get(one.replica_id, math.inf)
        found.append(
            Resident(
                one.replica_id,
                one.model,
                (one.memory_bytes if device.kind == "cpu" else 0) or one.planned_bytes,
                one.planned_bytes,
                on_demand=spec is not None and spec.on_demand,
                may_rest=spec is not None and spec.may_rest,
                is_ending=not wanted or one.status == ReplicaStatus.UNLOADING or rests,
                idle_s=idle_s,
            )
        )
    return found


def reclaimable_bytes(there: Iterable[Resident]) -> int:
    """What comes back of a device's memory when all that may rest do."""
    return sum(one.memory_bytes for one in there if one.may_rest or one.is_ending)


def make_room(need: Need, free_bytes: int, there: Sequence[Resident], *, limit: int) -> Answer:
    """How a load gets its room on a device with so much free memory; `limit` is that of models on demand, 0: none.

    The longest idle replica rests first; those that are about to end may do.
    """
    short = need.peak_bytes - int(free_bytes * USABLE)
    others = sum(one.planned_bytes for one in there if one.on_demand)
    over = others + need.total_bytes - limit if need.on_demand and limit else 0
    if short <= 0 and over <= 0:
        return Answer(has_room=True)
    ending = [one for one in there if one.is_ending]
    able = [one for one in there if one.may_rest and not one.is_ending and (short > 0 or one.on_demand)]
    if _suffices(ending, short, over):
        return Answer(waits_for=_models(ending))
    if not _suffices([*ending, *able], short, over):
        return Answer()
    idle = max((one for one in able if one.idle_s >= 0), key=lambda one: one.idle_s, default=None)
    return Answer(to_rest=idle, waits_for=_models([idle] if idle else able))


def _suffices(those: Sequence[Resident], short: int, over: int) -> bool:
    """Whether the memory of those is as much as is missing."""
    gives = int(sum(one.memory_bytes for one in those) * USABLE)
    return gives >= short and sum(one.planned_bytes for one in those if one.on_demand) >= over


def _models(those: Iterable[Resident]) -> list[str]:
    return sorted({one.model for one in those})
