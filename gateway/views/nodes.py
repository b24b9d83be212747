"""Nodes as operators see them: what was last seen of each, and what runs there now."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from gateway.cluster.desired import Desired, ReplicaSpec, SpecState
from gateway.cluster.nodes import Node, Nodes, NodeState
from gateway.cluster.registry import Device, Registry, Replica
from gateway.store.checks import MAX_MS
from schemas.base.times import iso


class NodeViews:
    """Looks at the nodes of an installation."""

    def __init__(self, nodes: Nodes, registry: Registry, desired: Desired) -> None:
        self._nodes = nodes
        self._registry = registry
        self._desired = desired

    def all(self) -> list[dict[str, Any]]:
        """All nodes by name."""
        return self._shown(self._nodes.all())

    def one(self, name: str) -> dict[str, Any]:
        """One node. Raises: NotFound, Unreadable."""
        return self._shown([self._nodes.get(name)])[0]

    def _shown(self, nodes: Iterable[Node]) -> list[dict[str, Any]]:
        devices, replicas, specs = self._registry.devices(), self._registry.replicas(), self._desired.all()
        return [
            shown(
                node,
                alive=[device for device in devices if device.node == node.name],
                replicas=[replica for replica in replicas if replica.node == node.name],
                specs=[spec for spec in specs if spec.node == node.name],
            )
            for node in nodes
        ]


def shown(
    node: Node, *, alive: Sequence[Device], replicas: Sequence[Replica], specs: Sequence[ReplicaSpec]
) -> dict[str, Any]:
    """One node, with the agents and replicas that live there and the replicas that should."""
    latest = node.latest
    now = {device.device: device for device in alive}
    used = {one.device for one in replicas} | {one.device for one in specs}
    return {
        "name": node.name,
        "state": node.state(alive=bool(alive), in_use=bool(replicas or specs)),
        "version": latest.version if latest else "",
        "address": latest.host if latest else "",
        "labels": node.labels,
        "first_seen": iso(node.first_seen_ms),
        "last_seen": iso(min(MAX_MS, node.last_seen_ms)),
        "devices": [
            _device(
                now.get(seen.device, seen),
                node.device_state(seen.device, alive=seen.device in now, in_use=seen.device in used),
            )
            for seen in node.devices
        ],
        "replicas": _replicas(replicas, specs),
    }


def _device(device: Device, state: NodeState) -> dict[str, Any]:
    return {
        "device": device.device,
        "state": state,
        "alive": state != NodeState.GONE,
        "hardware": device.hardware,
        "memory_bytes": device.memory_total,
        "memory_free_bytes": device.memory_free,
        "engines": list(device.engines),
    }


def _replicas(replicas: Iterable[Replica], specs: Iterable[ReplicaSpec]) -> list[dict[str, Any]]:
    """Those that live, then those that are wanted and do not."""
    found = {one.replica_id: _replica(one, str(one.health), one.sequences) for one in replicas}
    for spec in specs:
        status = "missing" if spec.state == SpecState.RUNNING else spec.state
        found.setdefault(spec.replica_id, _replica(spec, str(status), 0))
    return [found[name] for name in sorted(found)]


def _replica(one: Replica | ReplicaSpec, status: str, sequences: int) -> dict[str, Any]:
    return {
        "replica_id": one.replica_id,
        "model_id": one.model,
        "device": one.device,
        "status": status,
        "sequences": sequences,
    }
