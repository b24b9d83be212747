"""Nodes as Redis keeps them: what agents note, what operators want, and what comes of both."""

from __future__ import annotations

from dataclasses import replace

import pytest
import redis

from gateway.cluster.desired import Desired, ReplicaSpec, SpecState
from gateway.cluster.nodes import Node, Nodes, NodeState, Place, parse_labels
from gateway.cluster.registry import Device, Registry, Replica
from gateway.errors import InvalidSetting, NotFound
from gateway.settings import Settings
from gateway.store import keys
from gateway.views.nodes import NodeViews, shown

HERE = Device(
    "agent:1", "n1", "cpu0", pid=1, labels={"gpu": "none", "zone": "a"}, seen_ms=2_000, version="1.2", host="h"
)


@pytest.fixture
def nodes(redis_client: redis.Redis) -> Nodes:
    return Nodes(redis_client)


@pytest.mark.parametrize(
    ("hold", "alive", "in_use", "state"),
    [
        ("", True, True, NodeState.READY),
        (NodeState.CORDONED, True, True, NodeState.CORDONED),
        (NodeState.DRAINING, True, True, NodeState.DRAINING),
        (NodeState.DRAINING, True, False, NodeState.CORDONED),
        (NodeState.DRAINING, False, True, NodeState.GONE),
        ("", False, False, NodeState.GONE),
    ],
)
def test_its_state_comes_of_what_lives_there_and_what_operators_want(
    hold: str, alive: bool, in_use: bool, state: NodeState
) -> None:
    assert Node("n", hold=hold).state(alive=alive, in_use=in_use) is state


def test_what_was_seen_first_stays_and_what_was_seen_last_is_kept(nodes: Nodes) -> None:
    nodes.note(HERE)
    nodes.note(replace(HERE, device="cpu1", seen_ms=3_000))
    nodes.note(replace(HERE, seen_ms=9_000))
    node = nodes.get("n1")
    assert (node.first_seen_ms, node.last_seen_ms) == (2_000, 9_000)
    assert [(device.device, device.seen_ms) for device in node.devices] == [("cpu0", 9_000), ("cpu1", 3_000)]


def test_operators_labels_are_over_those_of_the_settings_and_hide_them(nodes: Nodes) -> None:
    nodes.note(HERE)
    assert nodes.label("n1", {"gpu": "a100", "zone": None, "rack": "7"}).labels == {"gpu": "a100", "rack": "7"}
    nodes.note(HERE)
    (found,), held = nodes.open_devices([HERE])
    assert (found.labels, held) == ({"gpu": "a100", "rack": "7"}, {})


def test_a_held_node_gets_nothing_until_it_is_released(nodes: Nodes) -> None:
    nodes.note(HERE)
    other = replace(HERE, node="n2")
    assert [nodes.hold(Place("n1"), NodeState.DRAINING) for _ in range(2)] == [True, False]
    assert nodes.open_devices([HERE, other]) == ([other], {"n1": "draining"})
    assert [nodes.hold(Place("n1"), None) for _ in range(2)] == [True, False]
    assert nodes.open_devices([HERE, other])[1] == {}


def test_a_held_device_leaves_the_others_of_its_node(nodes: Nodes) -> None:
    other = replace(HERE, device="cpu1")
    nodes.note(HERE)
    nodes.note(other)
    assert nodes.hold(Place("n1", "cpu1"), NodeState.DRAINING)
    held = nodes.get("n1")
    assert (held.hold, held.held("cpu0"), held.held("cpu1")) == ("", "", "draining")
    assert held.device_state("cpu1", alive=True, in_use=False) is NodeState.CORDONED
    nodes.note(replace(other, seen_ms=9_000))
    found, why = nodes.open_devices([HERE, other])
    assert ([device.name for device in found], why) == (["n1.cpu0"], {"n1.cpu1": "draining"})
    assert (nodes.is_held(Place("n1", "cpu0")), nodes.is_held(Place("n1", "cpu1"))) == (False, True)
    with pytest.raises(NotFound, match="Node 'n1' has no device 'cuda7'; it has: cpu0, cpu1"):
        nodes.hold(Place("n1", "cuda7"), NodeState.CORDONED)
    nodes.hold(Place("n1", "cpu1"), None)
    assert nodes.open_devices([HERE, other])[1] == {}


def test_who_is_not_there_is_named_with_those_who_are(nodes: Nodes) -> None:
    nodes.note(HERE)
    for call in (nodes.get, lambda name: nodes.label(name, {}), lambda name: nodes.hold(Place(name), None)):
        with pytest.raises(NotFound, match="no node 'n7'; there are: n1"):
            call("n7")
    assert nodes._redis.exists(keys.node("n7")) == 0
    nodes.forget("n1")
    assert nodes.all() == []


def test_a_damaged_node_hides_no_other(nodes: Nodes, redis_client: redis.Redis) -> None:
    nodes.note(HERE)
    nodes.note(replace(HERE, node="n2"))
    redis_client.hset(keys.node("n1"), "first_seen", "whatever")
    assert [node.name for node in nodes.all()] == ["n2"]


def test_it_is_shown_with_what_runs_there_and_what_should(redis_client: redis.Redis) -> None:
    registry, desired, nodes = Registry(redis_client), Desired(redis_client), Nodes(redis_client)
    nodes.note(HERE)
    registry.beat_device(HERE, lease_s=60)
    registry.heartbeat(Replica("w:1", "r-1", "m", "n1", "cpu0", "active", pid=2, sequences=3), lease_s=60)
    here = ReplicaSpec("r-1", "m", "n1", "cpu0")
    desired.put(here, replace(here, replica_id="r-2"), replace(here, replica_id="r-3", state=SpecState.ASLEEP))
    desired.put(replace(here, replica_id="r-4", node="n2"))
    (found,) = NodeViews(nodes, registry, desired).all()
    assert (found["state"], found["version"], found["address"]) == ("ready", "1.2", "h")
    assert [(one["replica_id"], one["status"], one["sequences"]) for one in found["replicas"]] == [
        ("r-1", "healthy", 3),
        ("r-2", "missing", 0),
        ("r-3", "asleep", 0),
    ]
    gone = shown(nodes.get("n1"), alive=[], replicas=[], specs=[here])
    assert (gone["state"], gone["devices"][0]["alive"], gone["last_seen"]) == (
        "gone",
        False,
        "1970-01-01T00:00:02.000Z",
    )


def test_labels_of_the_settings() -> None:
    assert parse_labels("") == {}
    assert parse_labels(" gpu=a100, topology.io/zone=b ") == {"gpu": "a100", "topology.io/zone": "b"}
    for wrong in ("gpu", "=x", "gpu=", "a b=c", "gpu=x y", f"{'k' * 64}=v"):
        with pytest.raises(InvalidSetting, match=r"HEADRACE_LABELS has .* a label is KEY=VALUE"):
            parse_labels(wrong)
    with pytest.raises(InvalidSetting, match="HEADRACE_LABELS has 65 labels; 64 are allowed"):
        parse_labels(",".join(f"k{i}=v" for i in range(65)))


def test_a_node_has_a_name_that_can_stand_in_keys_and_paths() -> None:
    assert Settings.load({"HEADRACE_NODE": "worker-01.a_b"}).node == "worker-01.a_b"
    for wrong in ("a b", "a/b", "", ".a", "a@b", "n" * 64):
        with pytest.raises(InvalidSetting, match=r"HEADRACE_NODE is .* 1 to 63 letters"):
            Settings.load({"HEADRACE_NODE": wrong})


def test_a_hold_that_can_not_be_read_holds_until_it_is_ended(nodes: Nodes, redis_client: redis.Redis) -> None:
    nodes.note(HERE)
    redis_client.hset(keys.node("n1"), mapping={"hold": "??", "hold:cpu0": "\ufffd"})
    assert nodes.open_devices([HERE]) == ([], {"n1": "cordoned", "n1.cpu0": "cordoned"})
    nodes.hold(Place("n1"), None)
    nodes.hold(Place("n1", "cpu0"), None)
    assert nodes.open_devices([HERE]) == ([HERE], {})


def test_a_device_that_can_not_be_read_is_left_out_of_its_node(nodes: Nodes, redis_client: redis.Redis) -> None:
    nodes.note(HERE)
    redis_client.hset(keys.node("n1"), "device:cpu1", "no JSON")
    assert [device.device for device in nodes.get("n1").devices] == ["cpu0"]
