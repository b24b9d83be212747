"""What one API key may have waiting, stored and open at once, and which models it may see; without any worker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
import redis

from gateway.access.api_keys import KeyRecord
from gateway.access.shares import Shares
from gateway.cluster.desired import ReplicaSpec
from gateway.cluster.registry import Registry, Replica
from gateway.context import Gateway
from gateway.deployments.service import Change
from gateway.errors import HeadraceError, JobNotFound, ModelNotFound, PermissionDenied, QueueFull
from gateway.inference.service import Submitted
from gateway.jobs.cleanup import Cleanup
from gateway.settings import Settings
from gateway.store import keys
from schemas.deployments import DeployRequest

REQUEST = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 5}


@pytest.fixture
def gateway(settings: Settings, redis_client: redis.Redis) -> Iterator[Gateway]:
    """A replica that takes nothing, and small bounds."""
    bounds = {"queue_limit": 3, "background_queue_limit": 5, "key_max_jobs": 4, "key_max_bytes": 10_000}
    gateway = Gateway.connect(replace(settings, **bounds))
    Registry(redis_client).heartbeat(Replica("i", "r", "fake", "n", "cpu0", "active", 1), lease_s=60)
    with closing(gateway.hub), closing(gateway.redis):
        yield gateway


def make_key(gateway: Gateway, **limits: Any) -> KeyRecord:
    return gateway.credentials.create("k", **limits)[0]


def submit(
    gateway: Gateway, key: KeyRecord, mark: str | None = None, *, background: bool = True, text: str = ""
) -> Submitted:
    request = {**REQUEST, "user": text}
    return gateway.inference.submit("chat", "fake", request, key=key, background=background, idempotency_key=mark)


def reason(gateway: Gateway, key: KeyRecord, mark: str | None = None, **how: Any) -> str:
    with pytest.raises(QueueFull) as caught:
        submit(gateway, key, mark, **how)
    assert caught.value.retry_after_s
    return caught.value.reason


@pytest.mark.parametrize("mark", [None, "m"])
def test_one_key_has_so_many_jobs_open(gateway: Gateway, mark: str | None) -> None:
    first = make_key(gateway)
    jobs = [submit(gateway, first).job for _ in range(4)]
    for background in (True, False):
        assert reason(gateway, first, mark, background=background) == "too_many_jobs"
    other = submit(gateway, make_key(gateway), background=False)
    assert other.watcher
    gateway.inference.cancel(jobs[0].id, key=first)
    submit(gateway, first, mark)


@pytest.mark.parametrize("mark", [None, "m"])
def test_background_jobs_take_no_place_of_interactive_ones(gateway: Gateway, mark: str | None) -> None:
    for _ in range(5):
        submit(gateway, make_key(gateway))
    assert reason(gateway, make_key(gateway), mark) == "queue_full"
    for _ in range(3):
        submit(gateway, make_key(gateway), background=False)
    assert reason(gateway, make_key(gateway), mark, background=False) == "queue_full"


@pytest.mark.parametrize("mark", [None, "m"])
def test_one_key_has_so_many_bytes_stored(gateway: Gateway, redis_client: redis.Redis, mark: str | None) -> None:
    key = make_key(gateway)
    job = submit(gateway, key, text="x" * 9_850).job
    assert reason(gateway, key, mark, text="y" * 1_000) == "too_much_stored"
    stored = int(redis_client.hget(keys.stored(key.id), ""))
    assert 9_850 < stored < 10_000, "what was refused is not counted"
    gateway.inference.cancel(job.id, key=key)
    assert reason(gateway, key, mark, text="y" * 1_000) == "too_much_stored"
    submit(gateway, make_key(gateway), text="x" * 9_000)
    redis_client.delete(keys.job(job.id))  # it has expired
    redis_client.zadd(keys.owned(key.id), {job.id: 0})
    Cleanup(gateway.store).step()
    assert redis_client.hgetall(keys.stored(key.id)) == {"": "0"}
    submit(gateway, key, mark, text="y" * 1_000)


def test_a_key_gives_back_each_place_once() -> None:
    shares = Shares(2)
    first, second = shares.take("a"), shares.take("a")
    with pytest.raises(QueueFull) as caught:
        shares.take("a")
    assert caught.value.reason == "too_many_streams"
    shares.take("b")
    for _ in range(3):
        first()
    assert shares.open("a") == 1
    shares.take("a")
    with pytest.raises(QueueFull):
        shares.take("a")
    second()
    assert shares.open("a") == 1


def test_without_a_bound_there_is_none() -> None:
    shares = Shares(0)
    for _ in range(100):
        shares.take("a")


# -- models


def test_a_key_that_is_bound_to_models_knows_no_others(gateway: Gateway) -> None:
    key = make_key(gateway, models=["fake"], scopes=["inference", "deploy"])
    assert [model["id"] for model in gateway.models.list(key)] == ["fake"]
    for ask in (
        lambda name: gateway.inference.submit("chat", name, REQUEST, key=key, background=True),
        lambda name: gateway.models.detail(name, key),
        lambda name: gateway.deployments.deploy(DeployRequest(model_type=name), key=key),
        lambda name: gateway.deployments.scale(name, 1, key=key),
        lambda name: gateway.deployments.unload(name, key=key),
    ):
        with pytest.raises(PermissionDenied) as forbidden:
            ask("smollm2-135m")
        assert forbidden.value.reason == "model_not_allowed"
        with pytest.raises(ModelNotFound) as unknown:
            ask("nope")
        assert unknown.value.message == "There is no model 'nope'. Known models: fake."


def test_nor_their_deployments(gateway: Gateway, redis_client: redis.Redis) -> None:
    Registry(redis_client).heartbeat(Replica("i", "r", "fake", "n", "cpu0", "active", 1), lease_s=60)
    admin, key = make_key(gateway, scopes=["admin"]), make_key(gateway, models=["fake"], scopes=["deploy"])
    change = Change(
        "deploy-1",
        gateway.catalog.get("smollm2-135m"),
        admin.id,
        body={},
        present=[],
        wanted=[ReplicaSpec("r", "smollm2-135m", "n", "cpu0")],
    )
    made = gateway.deployments.start(change)
    assert gateway.deployments.list(key=admin)
    assert gateway.deployments.list(key=key) == []
    for look in (gateway.deployments.status, gateway.deployments.cancel):
        with pytest.raises(JobNotFound):
            look(made["deployment_id"], key=key)
    assert gateway.deployments.status(made["deployment_id"], key=admin)


def test_a_long_name_makes_no_long_answer(gateway: Gateway) -> None:
    with pytest.raises(HeadraceError) as caught:
        gateway.models.detail("x" * 10**6, make_key(gateway))
    assert len(caught.value.message) < 4_001
    assert "Known models" in caught.value.message
