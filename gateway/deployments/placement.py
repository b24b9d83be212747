"""Chooses the devices for the replicas of a deployment, from the heartbeats of their agents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from gateway.cluster.registry import Device
from gateway.errors import InvalidRequest, NoDevice
from gateway.models.engines import how_to_install

#: A target that begins so is a label: all devices that have it.
LABEL = "label:"


def place(
    devices: Sequence[Device],
    targets: Sequence[str],
    *,
    needs: Sequence[str],
    replicas: int | None,
    held: Mapping[str, str] = MappingProxyType({}),
) -> list[Device]:
    """The device of each replica: one on each target, or on those with the most free memory.

    A target is a node, `node.device`, or `label:KEY=VALUE`, the devices with that label. With more replicas than
    targets, the targets are used in turn, and so are the devices of a label. `needs` must be installed there: the
    engine, and perhaps a tool. `held` has the nodes and devices that take none, and why.

    Raises:
        NoDevice: a target is not alive, or none is.
        InvalidRequest: a target lacks what is needed.
    """
    if targets:
        groups = [_on(devices, target, needs=needs, held=held) for target in targets]
    else:
        groups = [_with_most_memory(devices, needs=needs, held=held)]
    return [_in_turn(groups, i) for i in range(replicas or len(groups))]


def _in_turn(groups: Sequence[Sequence[Device]], i: int) -> Device:
    group = groups[i % len(groups)]
    return group[i // len(groups) % len(group)]


def _on(devices: Sequence[Device], target: str, *, needs: Sequence[str], held: Mapping[str, str]) -> list[Device]:
    """The devices of a target: one of a node, all of a label."""
    if target.startswith(LABEL):
        key, _, value = target.removeprefix(LABEL).partition("=")
        there = [device for device in devices if device.labels.get(key) == value]
    else:
        there = [device for device in devices if target in (device.node, device.name)]
    if there:
        able = _with_most_memory(there, needs=needs)
        return able if target.startswith(LABEL) else able[:1]
    if place := next((one for one in held if target == one or _is_within(target, one) or _is_within(one, target)), ""):
        raise NoDevice(f"{place} is {held[place]}, so it takes no new replicas. Run: headrace undrain {place}")
    alive = ", ".join(sorted(device.name for device in devices)) or "none"
    what = "node with" if target.startswith(LABEL) else "node"
    raise NoDevice(f"There is no {what} {target!r} in target_nodes that is alive; alive are: {alive}.")


def _is_within(device: str, node: str) -> bool:
    return device.startswith(f"{node}.")


def _with_most_memory(
    devices: Sequence[Device], *, needs: Sequence[str], held: Mapping[str, str] = MappingProxyType({})
) -> list[Device]:
    able = [device for device in devices if device.has(needs)]
    if not devices and held:
        names = ", ".join(f"{name} ({why})" for name, why in sorted(held.items()))
        raise NoDevice(f"No device that takes new replicas is alive. Those that take none: {names}.")
    if not devices:
        raise NoDevice("No agent is alive. Start one with 'headrace up', or 'headrace worker --node NAME'.")
    if not able:
        names = ", ".join(sorted(device.name for device in devices))
        missing = [name for name in needs if not any(device.has([name]) for device in devices)] or needs
        commands = " && ".join(dict.fromkeys(map(how_to_install, missing)))
        raise InvalidRequest(
            f"Not installed on {names}: {', '.join(missing)}. Install it there ({commands}), or choose another node.",
            reason="option_not_supported",
        )
    return sorted(able, key=lambda device: device.memory_free, reverse=True)
