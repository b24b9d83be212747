"""What the lists promise is what a request finds: a model is listed for OpenAI's clients if asking it is of use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import pytest
import redis
from flask.testing import FlaskClient

from gateway.cluster.desired import Desired, ReplicaSpec, SpecState
from gateway.cluster.registry import KeeperState, Registry, Replica
from gateway.context import Gateway
from gateway.readiness import check
from gateway.settings import Settings
from gateway.store import keys
from gateway.store.codec import dumps
from tests.stack import eventually
from web.app import create_app
from workers.keeper.keeper import Keeper

MODELS = {
    "fake": {"engine": "fake", "capabilities": ["chat"]},
    "second": {"engine": "fake", "capabilities": ["chat"], "fallbacks": ["fake"]},
}
#: What the heartbeat of a replica says (empty: there is none), its state if it is wanted, what is shown of the model,
#: and whether a request is taken.
STATES = [
    ("active", SpecState.RUNNING, "active", True),
    ("loading", SpecState.RUNNING, "loading", True),
    ("", SpecState.RUNNING, "loading", True),
    ("", SpecState.ASLEEP, "asleep", True),
    ("unloading", SpecState.ASLEEP, "asleep", True),
    ("unloading", "", "unloading", False),
    ("", SpecState.FAILED, "failed", False),
    ("", "", "inactive", False),
]


@pytest.fixture
def gateway(settings: Settings, redis_client: redis.Redis) -> Iterator[Gateway]:
    gateway = Gateway.connect(replace(settings, models_json=dumps(MODELS)))
    with closing(gateway.hub), closing(gateway.redis):
        yield gateway


@pytest.fixture
def client(gateway: Gateway) -> FlaskClient:
    client = create_app(gateway).test_client()
    _, secret = gateway.credentials.create("k")
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {secret}"
    return client


def there_is(client: redis.Redis, model: str, heartbeat: str, state: str) -> None:
    if heartbeat:
        Registry(client).heartbeat(Replica("i", "r", model, "n", "cpu0", heartbeat, 1), lease_s=60)
    if state:
        Desired(client).put(ReplicaSpec("r", model, "n", "cpu0", state=state))


def is_taken(client: FlaskClient, model: str) -> bool:
    """Whether a request is."""
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
    status = client.post("/v1/chat/completions", json=body, headers={"Prefer": "respond-async"}).status_code
    return {202: True, 503: False}[status]


def listed(client: FlaskClient) -> list[str]:
    return [model["id"] for model in client.get("/v1/models").get_json()["data"] if model["id"] in MODELS]


@pytest.mark.parametrize(("heartbeat", "state", "status", "taken"), STATES)
def test_a_model_is_listed_if_a_request_is_taken(
    client: FlaskClient, redis_client: redis.Redis, heartbeat: str, state: str, status: str, taken: bool
) -> None:
    there_is(redis_client, "fake", heartbeat, state)
    shown = client.get("/models/fake").get_json()["data"]
    assert shown["status"] == status
    assert shown["stats"]["availability"] == float(taken)
    assert ("fake" in listed(client)) is is_taken(client, "fake") is taken


def test_a_model_is_listed_if_its_fallback_takes_the_request(client: FlaskClient, redis_client: redis.Redis) -> None:
    there_is(redis_client, "fake", "", SpecState.ASLEEP)
    assert is_taken(client, "second")
    assert listed(client) == ["fake", "second"]


def test_a_gateway_is_ready_before_its_models_are(
    client: FlaskClient, gateway: Gateway, redis_client: redis.Redis
) -> None:
    """Else no deployment and no request would come that wakes one."""
    Registry(redis_client).beat_keeper(KeeperState(), lease_s=60)
    assert client.get("/health/ready").status_code == 200
    missing = client.get("/health/ready?model=fake")
    assert (missing.status_code, missing.get_json()["data"]["model"]) == (503, "inactive")
    assert client.get("/health/ready?model=none").status_code == 404
    there_is(redis_client, "fake", "", SpecState.ASLEEP)
    eventually(lambda: check(gateway).replicas == {"r": "asleep"}, "it is seen that it sleeps")
    there_is(redis_client, "fake", "active", SpecState.RUNNING)
    eventually(lambda: check(gateway).replicas == {"r": "healthy"}, "it is seen that it serves")
    redis_client.delete(keys.KEEPER)
    assert not check(gateway).ready


def test_a_redis_that_may_drop_jobs_is_not_ready(
    client: FlaskClient, redis_client: redis.Redis, keeper: Keeper
) -> None:
    policy = redis_client.config_get("maxmemory-policy")["maxmemory-policy"]
    redis_client.config_set("maxmemory-policy", "volatile-lru")
    try:
        keeper.round()
    finally:
        redis_client.config_set("maxmemory-policy", policy)
    ready = client.get("/health/ready")
    assert (ready.status_code, ready.get_json()["data"]["redis"]) == (503, "evicting")
    assert "Run: redis-cli CONFIG SET maxmemory-policy noeviction" in ready.get_json()["data"]["durability"]
