"""How far a load is, from the log of a replica's starts."""

from __future__ import annotations

import pytest
import redis

from gateway.cluster.desired import ReplicaSpec, SpecState
from gateway.cluster.loading import Loading
from gateway.cluster.startup import STAGES, StartupLog
from gateway.deployments.load_progress import LoadProgress

A, B = (ReplicaSpec(name, "m", "n", "cpu0") for name in "ab")
#: Seconds that the stages take, as nobody knows better: 0.5, 1, 3, 5 and 2.
WHOLE_S = 11.5


@pytest.fixture
def log(redis_client: redis.Redis) -> StartupLog:
    return StartupLog(redis_client, A.replica_id)


def load(log: StartupLog, *stages: str) -> None:
    """These stages, one after the other."""
    for stage in stages:
        log.append(stage=stage, status="in_progress")
        log.append(stage=stage, status="completed", progress=100)


def found(client: redis.Redis, *replicas: ReplicaSpec) -> Loading:
    return LoadProgress(client).of("m", replicas)


def test_a_load_that_nobody_has_begun_is_at_its_beginning(redis_client: redis.Redis) -> None:
    assert found(redis_client) == found(redis_client, A) == Loading(0, "", WHOLE_S)


def test_stages_count_by_the_time_that_they_take(redis_client: redis.Redis, log: StartupLog) -> None:
    load(log, "preparation", "downloading_weights", "model_initialization")
    log.append(stage="model_loading", status="in_progress", progress=50)
    assert found(redis_client, A) == Loading(60, "model_loading", 4.5)


def test_another_start_begins_anew(redis_client: redis.Redis, log: StartupLog) -> None:
    """One that has succeeded shows so until then: who waits may not know yet that it serves."""
    load(log, *STAGES)
    log.append(end="active")
    assert found(redis_client, A) == Loading(100, "service_registration", 0.0)
    log.append(stage="preparation", status="in_progress")
    assert found(redis_client, A) == Loading(0, "preparation", WHOLE_S)
    log.append(end="gone")
    assert found(redis_client, A) == Loading(0, "", WHOLE_S)


def test_of_several_replicas_the_first_counts(redis_client: redis.Redis, log: StartupLog) -> None:
    load(log, "preparation", "downloading_weights")
    assert found(redis_client, A, B).stage == "downloading_weights"
    asleep = ReplicaSpec("a", "m", "n", "cpu0", state=SpecState.ASLEEP)
    assert found(redis_client, asleep, B) == Loading(0, "", WHOLE_S)
