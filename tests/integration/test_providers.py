"""Remote models: a provider worker over servers that speak the providers' protocols, and fail as they do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from gateway.redis import dumps
from tests.stack import Stack, chat, eventually
from tests.upstreams.base import Fault, Upstream, answer
from tests.upstreams.openai import OpenAIServer

KEYS = {"UP_OPENAI_KEY": "sk-openai-6d1f0c9b7a", "UP_ANTHROPIC_KEY": "sk-ant-93b1e7c04d"}
FAST = {"connect_timeout_s": 2.0, "first_byte_timeout_s": 5.0, "between_timeout_s": 1.0, "max_retry_wait_s": 3.0}


@dataclass
class World:
    """A stack with a provider worker, and the servers behind it."""

    stack: Stack
    openai: Upstream

    def server(self, model: str) -> Upstream:
        """The server behind a model."""
        return self.openai

    def close(self) -> None:
        self.stack.close()
        self.openai.close()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    openai = OpenAIServer(KEYS["UP_OPENAI_KEY"])
    providers = {
        "oa": {"protocol": "openai", "base_url": f"{openai.url}/v1", "api_key_env": "UP_OPENAI_KEY", **FAST},
    }
    everything = ["chat", "completion", "embedding", "tool_use"]
    models = {
        "oa-model": {"capabilities": everything, "provider": "oa", "upstream": "gpt-4", "on_interrupt": "fail"},
    }
    stack = Stack(
        tmp_path_factory.mktemp("s"),
        providers_json=dumps(providers),
        models_json=dumps(models),
        log_level="debug",
        breaker_failures=1000,
    )
    with pytest.MonkeyPatch.context() as patch:
        for name, value in KEYS.items():
            patch.setenv(name, value)
        world = World(stack, openai)
        try:
            stack.up({"fake": {"step_s": 0.005}})
            stack.start("provider")
            eventually(stack.registry.providers, "a provider worker")
            yield world
        finally:
            world.close()


@pytest.fixture(autouse=True)
def calm(world: World) -> Iterator[None]:
    """Each test begins with servers that do nothing wrong, and leaves no fault behind."""
    for server in (world.openai,):
        server.faults.clear()
        server.received.clear()
        server.go.clear()
    yield


def usage_of(world: World, job_id: str) -> dict[str, int]:
    with world.stack.client() as client:
        found: dict[str, int] = client.get(f"/jobs/{job_id}").json()["data"]["usage"]
    return found


CHATS = ["oa-model"]


@pytest.mark.parametrize("model", CHATS)
def test_a_chat_is_streamed_whole_and_counted_by_the_provider(world: World, model: str) -> None:
    stream = chat(world.stack, "one two three", model=model).join()
    assert (stream.text, stream.finish_reason, stream.error) == (answer(), "stop", None)
    assert usage_of(world, stream.job_id) == {"prompt_tokens": 3, "completion_tokens": 12, "total_tokens": 15}
    with world.stack.client() as client:
        body: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}
        whole = client.post(f"/models/{model}/chat/completions", json=body).json()["data"]
    choice = whole["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == (answer(5), "length")
    assert whole["usage"] == {"prompt_tokens": 1, "completion_tokens": 5, "total_tokens": 6}
    assert whole["model"] == model


@pytest.mark.parametrize("model", CHATS)
def test_a_cancelled_job_closes_its_call_at_once(world: World, model: str) -> None:
    server = world.server(model)
    server.faults.append(Fault("hold", after=3))
    stream = chat(world.stack, model=model)
    assert server.held.acquire(timeout=20)
    eventually(lambda: stream.job_id, "the job has an id")
    with world.stack.client() as client:
        assert client.delete(f"/jobs/{stream.job_id}").json()["data"]["status"] in ("cancelling", "cancelled")
    assert server.left.acquire(timeout=10), "the server has seen the client leave"
    stream.join()
    assert (stream.text, stream.finish_reason) == (answer(3), "cancelled")
