"""A stack with a provider worker, over servers that stand in for OpenAI and Anthropic."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateway.store import keys
from gateway.store.codec import dumps
from tests.stack import Stack, eventually
from tests.upstreams.anthropic import AnthropicServer
from tests.upstreams.base import Upstream
from tests.upstreams.openai import OpenAIServer

KEYS = {
    "UP_OPENAI_KEY": "sk-openai-6d1f0c9b7a",
    "UP_ANTHROPIC_KEY": "sk-ant-93b1e7c04d",
    "UP_WRONG_KEY": "sk-wrong-51c0aa27e6",
}
#: So long that nothing times out that should not.
PATIENT = {"connect_timeout_s": 5.0, "first_byte_timeout_s": 30.0, "between_timeout_s": 30.0, "max_retry_wait_s": 3.0}

Tables = Mapping[str, Mapping[str, Any]]


@dataclass
class World:
    """All of it."""

    stack: Stack
    openai: Upstream
    anthropic: Upstream

    def calm(self) -> None:
        """Servers that do nothing wrong, circuits that are closed."""
        for worker in self.stack.registry.providers():
            for provider in worker.credentials:
                self.stack.redis.delete(*keys.breaker(provider))
        for server in (self.openai, self.anthropic):
            server.faults.clear()
            server.received.clear()
            server.go.clear()
            for counter in (server.held, server.left):
                while counter.acquire(blocking=False):
                    continue

    def start_worker(self) -> None:
        """Start a provider worker, and wait for its heartbeat."""
        self.stack.start("provider")
        eventually(self.stack.registry.providers, "a provider worker")

    def post(self, path: str, **body: Any) -> Any:
        """The data of a request that goes well."""
        with self.stack.client() as client:
            response = client.post(f"/models/{path}", json=body)
        assert response.status_code == 200, response.text
        return response.json()["data"]

    def ask(self, model: str) -> Any:
        """The response to a chat that is not streamed."""
        body = {"messages": [{"role": "user", "content": "hi"}]}
        with self.stack.client() as client:
            return client.post(f"/models/{model}/chat/completions", json=body)

    def job(self, job_id: str) -> Any:
        """A job as clients see it."""
        with self.stack.client() as client:
            return client.get(f"/jobs/{job_id}").json()["data"]


@contextlib.contextmanager
def world(folder: Path, tables: Callable[[str, str], tuple[Tables, Tables]], **settings: Any) -> Iterator[World]:
    """Start it. `tables` makes providers and models from the two servers' addresses."""
    openai, anthropic = OpenAIServer(KEYS["UP_OPENAI_KEY"]), AnthropicServer(KEYS["UP_ANTHROPIC_KEY"])
    providers, models = tables(f"{openai.url}/v1", anthropic.url)
    stack = Stack(folder, providers_json=dumps(providers), models_json=dumps(models), **settings)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in KEYS.items():
            patch.setenv(name, value)
        found = World(stack, openai, anthropic)
        try:
            stack.up({"fake": {"step_s": 0.005}})
            found.start_worker()
            yield found
        finally:
            stack.close()
            openai.close()
            anthropic.close()
