"""An engine that can't be started again: tried a few times, and never longer than the worker is to live."""

from __future__ import annotations

import threading

import pytest
import redis

from gateway.backoff import Backoff
from gateway.cluster.registry import Registry, Replica, ReplicaStatus
from gateway.settings import Settings
from tests.stack import eventually
from workers.engines.base import EngineConfig, Sampling, SequenceRequest
from workers.replica import engine_supervisor
from workers.replica.engine_supervisor import EngineSupervisor
from workers.replica.heartbeat import ReplicaHeartbeat
from workers.replica.lifetime import Lifetime
from workers.replica.sequences import Sequences

RECORD = Replica("i", "r", "m", "test", "cpu0", "loading", pid=1)
NO_ENGINE = EngineConfig("no-such-engine", "", "cpu0", 1, 16)


@pytest.fixture
def life() -> Lifetime:
    return Lifetime()


@pytest.fixture
def heartbeat() -> ReplicaHeartbeat:
    return ReplicaHeartbeat(RECORD, Registry(redis.Redis()), lease_s=2)


@pytest.fixture
def restarting(life: Lifetime, heartbeat: ReplicaHeartbeat) -> threading.Thread:
    """The thread that tries."""
    supervisor = EngineSupervisor(
        Settings(),
        NO_ENGINE,
        Sequences(),
        heartbeat,
        life,
        probe=lambda: SequenceRequest(1, [1], Sampling(1)),
        on_death=lambda _: None,
    )
    return threading.Thread(target=supervisor._restart, daemon=True)


def test_a_worker_that_ends_does_not_wait_for_the_next_try(
    monkeypatch: pytest.MonkeyPatch, life: Lifetime, heartbeat: ReplicaHeartbeat, restarting: threading.Thread
) -> None:
    monkeypatch.setattr(engine_supervisor, "BACKOFF", Backoff(first_s=3600.0, last_s=3600.0))
    restarting.start()
    eventually(lambda: heartbeat.record.message, "the first try has failed")
    life.stopping.set()
    restarting.join(30)
    assert not restarting.is_alive()
    assert not life.lost.is_set(), "it was not given up"


def test_after_a_few_tries_the_worker_is_given_up(
    monkeypatch: pytest.MonkeyPatch, life: Lifetime, heartbeat: ReplicaHeartbeat, restarting: threading.Thread
) -> None:
    monkeypatch.setattr(engine_supervisor, "BACKOFF", Backoff(first_s=0.0, last_s=0.0))
    restarting.start()
    restarting.join(30)
    assert life.lost.is_set()
    assert life.over.is_set()
    assert heartbeat.record.status is ReplicaStatus.FAILED
    assert "no-such-engine" in heartbeat.record.message
