"""A replica's heartbeat, changed and sent by several threads at once."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator

import pytest
import redis

from gateway.cluster.registry import Registry, Replica
from workers.engines.steps import StepFrame
from workers.replica.heartbeat import ReplicaHeartbeat

RECORD = Replica("i", "r", "m", "test", "cpu0", "loading", pid=1)


@pytest.fixture
def eager_threads() -> Iterator[None]:
    """Threads take turns as often as they can, so that what can be lost between two of them is."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def together(*threads: threading.Thread) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.usefixtures("eager_threads")
def test_no_change_of_any_thread_is_lost(redis_client: redis.Redis) -> None:
    heartbeat = ReplicaHeartbeat(RECORD, Registry(redis_client), lease_s=2)
    lost: list[str] = []

    def write(field: str) -> None:
        for i in range(3000):
            heartbeat.update(**{field: i})
            if getattr(heartbeat.record, field) != i:
                lost.append(field)

    def step() -> None:
        for _ in range(3000):
            heartbeat.count(StepFrame([], 1, 2, kv_used_tokens=7, steps_s=0.25), tokens=1)
            heartbeat.measure(())

    fields = ("engine_pid", "planned_bytes", "max_batch_size")
    writers = [threading.Thread(target=write, args=(field,)) for field in fields]
    together(*writers, *(threading.Thread(target=step) for _ in range(2)))
    assert not lost
    assert heartbeat.record.steps == 2 * 2 * 3000
    assert heartbeat.record.memory_bytes > 0


def test_what_is_sent_later_is_not_older(redis_client: redis.Redis) -> None:
    """The beat of one thread is on its way while another says that the replica serves."""
    on_its_way, may_arrive = threading.Event(), threading.Event()

    class SlowRegistry(Registry):
        def heartbeat(self, replica: Replica, *, lease_s: float) -> None:
            if replica.status == "loading":
                on_its_way.set()
                may_arrive.wait(10)
            super().heartbeat(replica, lease_s=lease_s)

    heartbeat = ReplicaHeartbeat(RECORD, SlowRegistry(redis_client), lease_s=60)

    def announce() -> None:
        heartbeat.update(status="active")
        heartbeat.send()

    slow, later = threading.Thread(target=heartbeat.send), threading.Thread(target=announce)
    slow.start()
    assert on_its_way.wait(10)
    later.start()
    later.join(0.3)  # it waits for the one before it, or has overtaken it
    may_arrive.set()
    slow.join()
    later.join()
    assert [replica.status for replica in Registry(redis_client).replicas()] == ["active"]


@pytest.mark.parametrize("last", ["unloading", "failed"])
def test_who_leaves_does_not_come_back(redis_client: redis.Redis, last: str) -> None:
    """Its engine may die, or be ready, after that."""
    heartbeat = ReplicaHeartbeat(RECORD, Registry(redis_client), lease_s=2)
    heartbeat.update(status=last)
    heartbeat.update(status="loading", engine_pid=0)
    heartbeat.update(status="active", engine_pid=7)
    assert (heartbeat.record.status, heartbeat.record.engine_pid) == (last, 7)
