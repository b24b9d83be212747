"""The nodes: machines whose agents were ever here. Redis keeps what each was last seen with until somebody forgets it.

Agents write what they see; operators write labels, and whether a node takes new replicas. Knows nothing of deployments.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any, cast

import redis

from gateway.cluster.registry import Device
from gateway.errors import InvalidSetting, NotFound, Unreadable
from gateway.store import keys
from gateway.store.codec import dumps, load_as
from gateway.store.connection import pipeline
from gateway.store.unreadable import leaving_out, reading
from schemas.cluster.nodes import LABEL_KEY, LABEL_RULE, LABEL_VALUE, MAX_LABELS

#: How often an agent notes what it sees: a node that has gone was last seen so many seconds ago, or less.
NOTE_S = 5.0


class NodeState(StrEnum):
    """The state of a node, as operators see it."""

    READY = "ready"
    #: It takes no new replicas, and those that it has move elsewhere.
    DRAINING = "draining"
    #: It takes no new replicas.
    CORDONED = "cordoned"
    #: No agent of it is alive.
    GONE = "gone"


#: What an operator may want of a node; else it is simply in use.
HOLDS = (NodeState.CORDONED, NodeState.DRAINING)


@dataclass(frozen=True)
class Node:
    """One machine. Times are ms since the epoch, by Redis' clock."""

    name: str
    first_seen_ms: int = 0
    #: One of `HOLDS`: it takes no new replicas; empty: it does.
    hold: str = ""
    #: As each of its agents was last seen.
    devices: Sequence[Device] = ()
    #: Labels that operators have set; an empty one hides that of the node's own settings.
    set_labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def last_seen_ms(self) -> int:
        """When one of its agents was last seen."""
        return max([self.first_seen_ms, *(device.seen_ms for device in self.devices)])

    @property
    def latest(self) -> Device | None:
        """The device that was seen last."""
        return max(self.devices, key=lambda device: device.seen_ms, default=None)

    @property
    def labels(self) -> dict[str, str]:
        """All labels of its devices, as operators have changed them."""
        own = {name: value for device in self.devices for name, value in device.labels.items()}
        return {name: value for name, value in sorted({**own, **self.set_labels}.items()) if value}

    def state(self, *, alive: bool, in_use: bool) -> NodeState:
        """Its state. `alive`: it has an agent; `in_use`: it has replicas, or should have some."""
        if not alive:
            return NodeState.GONE
        if self.hold == NodeState.DRAINING and not in_use:
            return NodeState.CORDONED
        return NodeState(self.hold or NodeState.READY)

    def labelled(self, device: Device) -> Device:
        """One of its devices with the labels that operators have set."""
        merged = {**device.labels, **self.set_labels}
        return replace(device, labels={name: value for name, value in merged.items() if value})


class Nodes:
    """Reads and writes them."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client

    def note(self, device: Device) -> None:
        """Note that a device is here now, and with what."""
        name = keys.node(device.node)
        pipeline(
            self._redis,
            [
                ("SADD", keys.NODES, device.node),
                ("HSETNX", name, "first_seen", str(device.seen_ms)),
                ("HSET", name, f"device:{device.device}", dumps(asdict(device))),
            ],
        )

    def all(self) -> list[Node]:
        """All nodes by name, without those that can't be read."""
        names = sorted(cast("set[str]", self._redis.smembers(keys.NODES)))
        raws = pipeline(self._redis, [("HGETALL", keys.node(name)) for name in names], raise_on_error=False)
        found: list[Node] = []
        for name, raw in zip(names, raws, strict=True):
            with leaving_out(f"Node {name}"):
                if isinstance(raw, Exception):
                    raise raw
                if raw:
                    found.append(_read(name, raw))
        return found

    def get(self, name: str) -> Node:
        """Raises: NotFound, with the names of those that there are; Unreadable."""
        with reading(f"Node {name}"):
            (raw,) = pipeline(self._redis, [("HGETALL", keys.node(name))])
            if raw:
                return _read(name, raw)
        known = ", ".join(sorted(cast("set[str]", self._redis.smembers(keys.NODES)))) or "none"
        raise NotFound(f"There is no node {name!r}; there are: {known}.", reason="node_not_found")

    def label(self, name: str, changes: Mapping[str, str | None]) -> Node:
        """Set labels, or remove those whose value is None. Raises: NotFound."""
        self.get(name)
        values = {f"label:{key}": value or "" for key, value in changes.items()}
        if values:
            self._redis.hset(keys.node(name), mapping=cast("dict[Any, Any]", values))
        return self.get(name)

    def hold(self, name: str, hold: NodeState | None) -> Node:
        """Let it take no new replicas, or, with None, let it take some again. Idempotent. Raises: NotFound."""
        self.get(name)
        if hold is None:
            self._redis.hdel(keys.node(name), "hold")
        else:
            self._redis.hset(keys.node(name), "hold", hold.value)
        return self.get(name)

    def forget(self, name: str) -> None:
        """Remove all that is known of it. Its agent, if one lives, will note it again."""
        pipeline(self._redis, [("DEL", keys.node(name)), ("SREM", keys.NODES, name)])

    def open_devices(self, devices: Iterable[Device]) -> tuple[list[Device], dict[str, str]]:
        """Those of the living devices that take new replicas, with all their labels; and the nodes that take none,
        with why.
        """
        nodes = {node.name: node for node in self.all()}
        held = {name: node.hold for name, node in nodes.items() if node.hold}
        found = [
            nodes[device.node].labelled(device) if device.node in nodes else device
            for device in devices
            if device.node not in held
        ]
        return found, held


def parse_labels(text: str) -> dict[str, str]:
    """Labels as HEADRACE_LABELS has them: `gpu=a100,zone=b`. Raises: InvalidSetting."""
    pairs = [pair.strip().partition("=") for pair in text.split(",") if pair.strip()]
    for key, _, value in pairs:
        if not re.fullmatch(LABEL_KEY, key) or not re.fullmatch(LABEL_VALUE, value):
            raise InvalidSetting(f"HEADRACE_LABELS has {'='.join((key, value))!r:.80}; {LABEL_RULE}")
    if len(pairs) > MAX_LABELS:
        raise InvalidSetting(f"HEADRACE_LABELS has {len(pairs)} labels; {MAX_LABELS} are allowed.")
    return {key: value for key, _, value in pairs}


def _read(name: str, raw: Mapping[str, str]) -> Node:
    """Raises: Unreadable."""
    first, hold = raw.get("first_seen", "0"), raw.get("hold", "")
    if not first.isascii() or not first.isdigit() or len(first) > 13:  # within the years that dates can have
        raise Unreadable(f"first_seen is {first!r:.80}.")
    if hold not in ("", *HOLDS):
        raise Unreadable(f"hold is {hold!r:.80}.")
    return Node(
        name=name,
        first_seen_ms=int(first),
        hold=hold,
        devices=[load_as(Device, value) for key, value in sorted(raw.items()) if key.startswith("device:")],
        set_labels={key.removeprefix("label:"): value for key, value in raw.items() if key.startswith("label:")},
    )
