"""A replica leaves when nobody wants it any more, and sleeps when nobody uses it."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest
import redis

from gateway.cluster.desired import Desired, ReplicaSpec, SpecState
from gateway.cluster.registry import Registry, Replica
from gateway.settings import Settings
from gateway.store import keys
from workers.replica.desired_watch import DesiredWatch
from workers.replica.heartbeat import ReplicaHeartbeat
from workers.replica.lifetime import Lifetime

WANTED = ReplicaSpec("r", "fake", "test", "cpu0", idle_unload_s=0.001)


class World:
    """A replica that serves, and is wanted."""

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        self.client = client
        self.desired = Desired(client)
        self.desired.put(WANTED)
        record = Replica("i", "r", "fake", "test", "cpu0", "active", pid=1)
        self.heartbeat = ReplicaHeartbeat(record, Registry(client), lease_s=2)
        self.life = Lifetime()
        self.watch = DesiredWatch(client, settings.data_dir, WANTED, self.heartbeat, self.life)

    def check(self, *, busy: bool = False) -> bool:
        """Whether it leaves, after it was idle for longer than it may be."""
        time.sleep(0.002)
        self.watch.check(busy=busy)
        assert self.life.unwanted.is_set() == self.life.over.is_set() == (self.heartbeat.record.status == "unloading")
        return self.life.unwanted.is_set()

    @property
    def state(self) -> str:
        found = self.desired.get("test", "cpu0", "r")
        assert found is not None
        return found.state


@pytest.fixture
def world(redis_client: redis.Redis, settings: Settings) -> World:
    return World(redis_client, settings)


def test_it_sleeps_when_nobody_uses_it(world: World) -> None:
    assert world.check()
    assert world.state == SpecState.ASLEEP


def test_it_stays_while_it_has_jobs_or_its_engine_loads_or_jobs_wait(world: World) -> None:
    assert not world.check(busy=True)
    world.heartbeat.update(status="loading")
    assert not world.check()
    world.heartbeat.update(status="active")
    world.client.zadd(keys.queued("fake"), {"chat-1": 1})
    assert not world.check()
    assert world.state == SpecState.RUNNING


def test_it_leaves_when_it_is_put_to_sleep_or_not_wanted_any_more(world: World) -> None:
    world.desired.put(replace(WANTED, state=SpecState.ASLEEP))
    assert world.check(busy=True)


def test_it_leaves_when_it_is_unloaded(world: World) -> None:
    world.desired.drop([WANTED])
    assert world.check(busy=True)


def test_it_stays_when_what_is_wanted_can_not_be_read(world: World) -> None:
    world.client.hset(keys.desired("test", "cpu0"), "r", "{")
    assert not world.check()


@pytest.mark.parametrize(
    ("options", "left"),
    [({"on_demand": True}, None), ({"idle_unload_s": 1e6}, SpecState.ASLEEP)],
    ids=["loaded on demand", "deployed, and may sleep"],
)
def test_it_makes_room_when_its_memory_is_needed(world: World, options: dict[str, Any], left: str | None) -> None:
    world.desired.put(replace(WANTED, **{"idle_unload_s": 0.0, **options}))
    assert not world.check()
    world.desired.ask_to_rest("r", idle_s=1e6, for_s=60)
    assert not world.check(), "it was used since"
    world.desired.ask_to_rest("r", idle_s=0.001, for_s=60)
    assert not world.check(busy=True)
    world.client.zadd(keys.queued("fake"), {"chat-1": 1})
    assert not world.check()
    world.client.delete(keys.queued("fake"))
    assert world.check()
    found = world.desired.get("test", "cpu0", "r")
    assert (found.state if found else None) == left


def test_one_that_is_deployed_to_stay_makes_no_room(world: World) -> None:
    world.desired.put(replace(WANTED, idle_unload_s=0.0))
    world.desired.ask_to_rest("r", idle_s=0, for_s=60)
    assert not world.check()


def test_one_that_was_loaded_on_demand_is_removed_when_nobody_uses_it(world: World) -> None:
    world.desired.put(replace(WANTED, on_demand=True))
    assert world.check()
    assert world.desired.get("test", "cpu0", "r") is None
