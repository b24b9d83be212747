"""The nodes: machines whose agents were ever here. Redis keeps what each was last seen with until somebody forgets it.

Agents write what they see; operators write labels, and whether a node takes new replicas. Knows nothing of deployments.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from functools import partial
from typing import Any, NamedTuple, cast

import redis

from gateway.cluster.registry import Device
from gateway.errors import InvalidSetting, NotFound, Unreadable
from gateway.store import keys
from gateway.store.codec import dumps, load_as
from gateway.store.connection import pipeline
from gateway.store.unreadable import leaving_out, readable, reading
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


#: What an operator may want of a node or a device; else it is simply in use.
HOLDS = (NodeState.CORDONED, NodeState.DRAINING)
#: What the field of a device's hold begins with.
_HOLD = "hold:"


class Place(NamedTuple):
    """A node, or one of its devices."""

    node: str
    device: str = ""

    def __str__(self) -> str:
        return f"{self.node}.{self.device}" if self.device else self.node

    def has(self, node: str, device: str) -> bool:
        """Whether a device belongs to it."""
        return self.node == node and self.device in ("", device)


@dataclass(frozen=True)
class Node:
    """One machine. Times are ms since the epoch, by Redis' clock."""

    name: str
    first_seen_ms: int = 0
    #: One of `HOLDS`: it takes no new replicas; empty: it does.
    hold: str = ""
    #: The same of single devices, by their names.
    device_holds: Mapping[str, str] = field(default_factory=dict)
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
        return _state(self.hold, alive=alive, in_use=in_use)

    def device_state(self, device: str, *, alive: bool, in_use: bool) -> NodeState:
        """That of one of its devices, likewise."""
        return _state(self.held(device), alive=alive, in_use=in_use)

    def held(self, device: str) -> str:
        """Why one of its devices takes no new replicas; empty: it does."""
        return self.hold or self.device_holds.get(device, "")

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

    def hold(self, place: Place, hold: NodeState | None) -> bool:
        """Let it take no new replicas, or, with None, let it take some again. Returns whether that is a change.

        Raises: NotFound.
        """
        devices = [one.device for one in self.get(place.node).devices]
        if place.device and place.device not in devices:
            known = ", ".join(devices) or "none"
            raise NotFound(
                f"Node {place.node!r} has no device {place.device!r}; it has: {known}.", reason="device_not_found"
            )
        name, field_name = keys.node(place.node), f"{_HOLD}{place.device}" if place.device else "hold"
        before = self._redis.hget(name, field_name)
        if hold is None:
            self._redis.hdel(name, field_name)
        else:
            self._redis.hset(name, field_name, hold.value)
        return before != (hold and hold.value)

    def is_held(self, place: Place) -> bool:
        """Whether a device takes no new replicas, because of itself or of its node."""
        found = cast("list[str | None]", self._redis.hmget(keys.node(place.node), "hold", f"{_HOLD}{place.device}"))
        return any(found)

    def forget(self, name: str) -> None:
        """Remove all that is known of it. Its agent, if one lives, will note it again."""
        pipeline(self._redis, [("DEL", keys.node(name)), ("SREM", keys.NODES, name)])

    def open_devices(self, devices: Iterable[Device]) -> tuple[list[Device], dict[str, str]]:
        """Those of the living devices that take new replicas, with all their labels; and the nodes and devices that
        take none, with why.
        """
        nodes = {node.name: node for node in self.all()}
        held = {name: node.hold for name, node in nodes.items() if node.hold}
        for name, node in nodes.items():
            held |= {str(Place(name, device)): why for device, why in node.device_holds.items()}
        found = [
            nodes[device.node].labelled(device) if device.node in nodes else device
            for device in devices
            if not held.keys() & {device.node, device.name}
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


def _state(hold: str, *, alive: bool, in_use: bool) -> NodeState:
    if not alive:
        return NodeState.GONE
    if hold == NodeState.DRAINING and not in_use:
        return NodeState.CORDONED
    return NodeState(hold or NodeState.READY)


def _hold(word: str) -> str:
    """What an operator wants; what can't be read holds, too, until somebody ends it."""
    return word if word in ("", *HOLDS) else NodeState.CORDONED


def _read(name: str, raw: Mapping[str, str]) -> Node:
    """Raises: Unreadable."""
    first = raw.get("first_seen", "0")
    if not first.isascii() or not first.isdigit() or len(first) > 13:  # within the years that dates can have
        raise Unreadable(f"first_seen is {first!r:.80}.")
    devices = [(f"{key} of node {name}", value) for key, value in sorted(raw.items()) if key.startswith("device:")]
    return Node(
        name=name,
        first_seen_ms=int(first),
        hold=_hold(raw.get("hold", "")),
        device_holds={key.removeprefix(_HOLD): _hold(value) for key, value in raw.items() if key.startswith(_HOLD)},
        devices=[device for _, device in readable(devices, partial(load_as, Device))],
        set_labels={key.removeprefix("label:"): value for key, value in raw.items() if key.startswith("label:")},
    )
