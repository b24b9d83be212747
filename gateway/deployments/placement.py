"""Chooses the devices for the replicas of a deployment, from the heartbeats of their agents."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.cluster.registry import Device
from gateway.errors import InvalidRequest, NoDevice


def place(devices: Sequence[Device], targets: Sequence[str], *, engine: str, replicas: int | None) -> list[Device]:
    """The device of each replica: one on each target, or on those with the most free memory.

    A target is a node, or `node.device`. With more replicas than targets, the targets are used in turn.

    Raises:
        NoDevice: a target is not alive, or none is.
        InvalidRequest: a target lacks the engine.
    """
    chosen = [_on(devices, target, engine=engine) for target in targets] or _with_most_memory(devices, engine=engine)
    count = replicas or (len(chosen) if targets else 1)
    return [chosen[i % len(chosen)] for i in range(count)]


def _on(devices: Sequence[Device], target: str, *, engine: str) -> Device:
    there = [device for device in devices if target in (device.node, device.name)]
    if not there:
        alive = ", ".join(sorted(device.name for device in devices)) or "none"
        raise NoDevice(f"There is no node {target!r} in target_nodes that is alive; alive are: {alive}.")
    return _with_most_memory(there, engine=engine)[0]


def _with_most_memory(devices: Sequence[Device], *, engine: str) -> list[Device]:
    able = [device for device in devices if engine in device.engines]
    if not devices:
        raise NoDevice("No agent is alive. Start one with 'headrace up', or 'headrace worker --node NAME'.")
    if not able:
        names = ", ".join(sorted(device.name for device in devices))
        raise InvalidRequest(
            f"The engine {engine!r} is not installed on {names}. Install it there (pip install 'headrace[worker]'), "
            "or choose another node.",
            reason="option_not_supported",
        )
    return sorted(able, key=lambda device: device.memory_free, reverse=True)
