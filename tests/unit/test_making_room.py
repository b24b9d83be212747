"""Which replica makes room for which load, from sizes alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.cluster.desired import ReplicaSpec, SpecState
from gateway.cluster.registry import Device, Replica
from gateway.deployments.making_room import (
    Answer,
    Need,
    Resident,
    limit_bytes,
    make_room,
    reclaimable_bytes,
    residents,
)

GB = 1_000_000_000
#: Of a device with 10 GB, 8 of which the replicas of a test have.
FREE = 2 * GB


def there(name: str, size: int = 2 * GB, **changes: object) -> Resident:
    """One that was loaded on demand, and that nobody has used for a second."""
    found = Resident(name, name, size, size, on_demand=True, may_rest=True, idle_s=1.0)
    return replace(found, **changes)  # type: ignore[arg-type]


def need(size: int, *, on_demand: bool = True) -> Need:
    return Need(size, size, on_demand)


def rests(answer: Answer) -> str:
    """Who is asked to rest."""
    return answer.to_rest.replica_id if answer.to_rest else ""


def test_nobody_rests_for_what_fits() -> None:
    assert make_room(need(GB), FREE, [there("a")], limit=0) == Answer(has_room=True)


def test_the_longest_idle_replica_rests_first() -> None:
    those = [there("a", idle_s=5), there("b", idle_s=50), there("c", idle_s=0)]
    assert rests(make_room(need(3 * GB), FREE, those, limit=0)) == "b"


@pytest.mark.parametrize(
    "kept",
    [
        {"idle_s": -1.0},  # it has jobs
        {"on_demand": False, "may_rest": False, "idle_s": 1e6},  # somebody wants it to stay
    ],
)
def test_one_that_is_used_or_deployed_to_stay_never_rests(kept: dict[str, object]) -> None:
    those = [there("a", **kept), there("b", idle_s=0.5)]
    assert rests(make_room(need(3 * GB), FREE, those, limit=0)) == "b"


def test_one_that_is_deployed_and_may_sleep_rests() -> None:
    assert rests(make_room(need(3 * GB), FREE, [there("a", on_demand=False)], limit=0)) == "a"


def test_nobody_rests_in_vain() -> None:
    """What is fixed, and what all others give together, is less than it takes."""
    those = [there("a"), there("b", may_rest=False, on_demand=False)]
    assert make_room(need(5 * GB), FREE, those, limit=0) == Answer()


def test_it_waits_for_one_that_is_used() -> None:
    assert make_room(need(3 * GB), FREE, [there("a", idle_s=-1)], limit=0) == Answer(waits_for=["a"])


def test_it_waits_for_those_that_end_before_others_are_asked() -> None:
    those = [there("a", is_ending=True, may_rest=False), there("b")]
    assert make_room(need(3 * GB), FREE, those, limit=0) == Answer(waits_for=["a"])
    assert rests(make_room(need(5 * GB), FREE, those, limit=0)) == "b"


def test_models_on_demand_have_a_limit_of_their_own() -> None:
    """However much memory is free, and only they make room within it."""
    those = [there("a", idle_s=1), there("b", idle_s=9), there("c", on_demand=False, idle_s=99)]
    assert make_room(need(2 * GB), 100 * GB, those, limit=6 * GB).has_room
    assert rests(make_room(need(2 * GB), 100 * GB, those, limit=5 * GB)) == "b"
    assert make_room(need(2 * GB, on_demand=False), 100 * GB, those, limit=5 * GB).has_room
    assert make_room(need(6 * GB), 100 * GB, those, limit=5 * GB) == Answer()
    used = [replace(one, idle_s=-1.0) for one in those]
    assert make_room(need(2 * GB), 100 * GB, used, limit=5 * GB) == Answer(waits_for=["a", "b"])


@pytest.mark.parametrize(("limit", "expected"), [(0, 0), (0.5, 5 * GB), (1, 10 * GB), (3e9, 3 * GB)])
def test_the_limit_is_in_bytes_or_a_share(limit: float, expected: int) -> None:
    assert limit_bytes(limit, 10 * GB) == expected


HERE = Device("agent", "n", "cpu0", 1)
REPLICA = Replica("i", "a", "model", "n", "cpu0", "active", 1, memory_bytes=3 * GB, planned_bytes=2 * GB, idle_s=7.0)
SPEC = ReplicaSpec("a", "model", "n", "cpu0", on_demand=True)


def test_a_replica_is_what_its_heartbeat_and_its_spec_say() -> None:
    (found,) = residents(HERE, [REPLICA, replace(REPLICA, node="other")], {"a": SPEC})
    assert found == Resident("a", "model", 3 * GB, 2 * GB, on_demand=True, may_rest=True, idle_s=7.0)
    assert reclaimable_bytes([found]) == 3 * GB


@pytest.mark.parametrize(
    ("spec", "may_rest"),
    [
        (replace(SPEC, on_demand=False), False),
        (replace(SPEC, on_demand=False, idle_unload_s=60.0), True),
        (None, False),
    ],
)
def test_only_what_may_be_unloaded_rests(spec: ReplicaSpec | None, may_rest: bool) -> None:
    (found,) = residents(HERE, [REPLICA], {"a": spec} if spec else {})
    assert found.may_rest is may_rest
    assert found.is_ending is (spec is None)


@pytest.mark.parametrize(
    ("replica", "spec", "asked", "ends"),
    [
        (REPLICA, SPEC, {}, False),
        (REPLICA, replace(SPEC, state=SpecState.ASLEEP), {}, True),
        (replace(REPLICA, status="unloading"), SPEC, {}, True),
        (REPLICA, SPEC, {"a": 7.0}, True),
        (replace(REPLICA, idle_s=-1.0), SPEC, {"a": 7.0}, False),  # it got a job before it had heard
        (replace(REPLICA, idle_s=0.5), SPEC, {"a": 7.0}, False),
    ],
)
def test_what_ends_gives_its_memory_back(
    replica: Replica, spec: ReplicaSpec, asked: dict[str, float], ends: bool
) -> None:
    (found,) = residents(HERE, [replica], {"a": spec}, asked=asked)
    assert found.is_ending is ends


def test_one_that_loads_is_not_idle() -> None:
    (found,) = residents(HERE, [replace(REPLICA, status="loading", idle_s=100.0)], {"a": SPEC})
    assert found.idle_s < 0


def test_of_another_device_s_memory_only_the_plan_is_known() -> None:
    """What is measured is the host's memory."""
    gpu = replace(REPLICA, device="cuda0")
    (found,) = residents(Device("agent", "n", "cuda0", 1), [gpu], {"a": SPEC})
    assert found.memory_bytes == 2 * GB
