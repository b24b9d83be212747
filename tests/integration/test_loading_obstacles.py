"""What a request for a model without a replica is told: by what agents say, without a process of theirs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace

import pytest
import redis
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from gateway.cluster.known_footprints import Footprints
from gateway.cluster.registry import Device, Registry
from gateway.context import Gateway
from gateway.models.footprint import Footprint
from gateway.settings import Settings
from gateway.store.codec import dumps
from web.app import create_app

MODEL = "fake"
MODELS = {MODEL: {"engine": "fake", "capabilities": ["chat"]}}
CHAT = {"messages": [{"role": "user", "content": "hi"}]}

Ask = Callable[..., TestResponse]


@pytest.fixture
def ask(settings: Settings, redis_client: redis.Redis) -> Iterator[Ask]:
    """Ask for the model, with the settings given, in a process that has just started."""
    gateways: list[Gateway] = []

    def one(**changes: bool) -> TestResponse:
        changed = replace(settings, models_json=dumps(MODELS), load_on_demand=True, **changes)
        gateway = Gateway.connect(changed)
        gateways.append(gateway)
        client: FlaskClient = create_app(gateway).test_client()
        _, secret = gateway.credentials.create("k")
        headers = {"Authorization": f"Bearer {secret}", "Prefer": "respond-async"}
        return client.post(f"/models/{MODEL}/chat/completions", json=CHAT, headers=headers)

    yield one
    for gateway in gateways:
        with closing(gateway.hub), closing(gateway.redis):
            pass


def device(client: redis.Redis, *, inspected: bool, found: Footprint | None = None) -> None:
    """A device with memory and the engine, and what its agent has found of the model."""
    gib = 1 << 30
    about = {"memory_total": 32 * gib, "memory_free": 16 * gib, "available_bytes": 16 * gib}
    there = Device("agent", "n1", "cpu0", 1, engines=("fake",), inspected=inspected, **about)
    Registry(client).beat_device(there, lease_s=60)
    if found:
        Footprints(client).publish("n1", "cpu0", {MODEL: found})


def test_one_that_comes_before_the_agent_has_looked_may_come_again(ask: Ask, redis_client: redis.Redis) -> None:
    device(redis_client, inspected=False)
    early = ask()
    assert (early.status_code, early.headers["Retry-After"]) == (503, "1")
    assert "x-should-retry" not in early.headers
    device(redis_client, inspected=True)
    late = ask()
    assert (late.status_code, late.headers["x-should-retry"]) == (503, "false")
    assert "its weights are on no machine" in late.get_json()["message"]


def test_weights_are_downloaded_for_a_request_if_the_settings_say_so(ask: Ask, redis_client: redis.Redis) -> None:
    device(redis_client, inspected=True, found=Footprint(here=False))
    refused = ask()
    assert refused.status_code == 503
    assert "Deploy it once, or set HEADRACE_LOAD_ON_DEMAND_FETCH=true" in refused.get_json()["message"]
    assert ask(load_on_demand_fetch=True).status_code == 202
