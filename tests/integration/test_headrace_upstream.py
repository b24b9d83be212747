"""Headrace as an OpenAI upstream of Headrace: two whole stacks, the one a provider of the other."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from gateway.store.codec import dumps
from tests.integration.test_rest import fake_text
from tests.stack import KEY, Stack, chat, eventually


@dataclass
class Pair:
    """`outer` asks `inner`."""

    inner: Stack
    outer: Stack

    def inner_job(self) -> str:
        """The newest job of the inner stack."""
        with self.inner.client() as client:
            jobs = client.get("/jobs").json()["data"]["jobs"]
        return str(jobs[0]["job_id"])


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    inner = Stack(tmp_path_factory.mktemp("i"))
    provider = {"protocol": "openai", "base_url": f"{inner.url}/v1", "api_key_env": "INNER_KEY"}
    remote = {
        "capabilities": ["chat", "completion"],
        "provider": "inner",
        "upstream": "fake",
        "max_tokens": 100_000,
        "temperature": {"min": 0, "max": 5, "default": 1},
    }
    outer = Stack(
        tmp_path_factory.mktemp("o"),
        providers_json=dumps({"inner": provider}),
        models_json=dumps({"remote": remote, "unknown": {**remote, "upstream": "nothing"}}),
    )
    with pytest.MonkeyPatch.context() as patch, contextlib.closing(inner), contextlib.closing(outer):
        patch.setenv("INNER_KEY", KEY)
        inner.up({"fake": {"step_s": 0.01}})
        outer.start("provider")
        outer.up({})
        eventually(outer.registry.providers, "a provider worker")
        yield Pair(inner, outer)


def test_a_gateway_without_devices_is_ready_by_its_providers(pair: Pair) -> None:
    with pair.outer.client() as client:
        ready = client.get("/health/ready").json()["data"]
    assert (ready["status"], ready["replicas"], ready["providers"]) == ("healthy", {}, {"inner": "healthy"})


def test_a_stream_comes_through_both(pair: Pair) -> None:
    stream = chat(pair.outer, "one two three", model="remote", max_tokens=50).join()
    assert (stream.text, stream.finish_reason) == (fake_text(pair.inner_job(), 50), "length")
    with pair.outer.client() as outer, pair.inner.client() as inner:
        counted = outer.get(f"/jobs/{stream.job_id}").json()["data"]["usage"]
        assert counted == inner.get(f"/jobs/{pair.inner_job()}").json()["data"]["usage"]


def test_an_engine_that_is_killed_behind_the_provider_is_a_pause(pair: Pair) -> None:
    stream = chat(pair.outer, model="remote", max_tokens=300)
    eventually(lambda: len(stream.text.split()) > 20, "it is in the middle")
    os.kill(pair.inner.replica("fake").engine_pid, signal.SIGKILL)
    stream.join()
    assert (stream.text, stream.error) == (fake_text(pair.inner_job(), 300), None)


def test_a_cancelled_job_is_cancelled_on_both(pair: Pair) -> None:
    stream = chat(pair.outer, model="remote", max_tokens=90_000)
    eventually(lambda: stream.text, "it has begun")
    with pair.outer.client() as client:
        client.delete(f"/jobs/{stream.job_id}")
    stream.join()
    assert stream.finish_reason == "cancelled"
    eventually(lambda: not pair.inner.running(), "nothing runs behind")


def test_whatever_is_asked_is_asked_behind(pair: Pair) -> None:
    asked = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 3, "verbosity": "low", "ignore_eos": True}
    with pair.outer.client() as outer, pair.inner.client() as inner:
        answered = outer.post("/v1/chat/completions", json={"model": "remote", **asked, "reasoning_effort": "low"})
        assert answered.status_code == 200, answered.text
        assert inner.get(f"/jobs/{pair.inner_job()}").json()["data"]["status"] == "completed"
        image = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
        looked = outer.post(
            "/v1/chat/completions", json={"model": "remote", "messages": [{"role": "user", "content": [image]}]}
        )
    assert (looked.status_code, looked.json()["error"]["code"]) == (400, "upstream_refused")
    assert "image_url" in looked.json()["error"]["message"]


def test_errors_behind_are_told_apart(pair: Pair) -> None:
    body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 3}
    with pair.outer.client() as client:
        unknown = client.post("/models/unknown/chat/completions", json=body)
        refused = client.post("/models/remote/chat/completions", json={**body, "temperature": 3})
    assert (unknown.status_code, unknown.json()["data"]["reason"]) == (502, "upstream_error")
    assert "nothing" in unknown.json()["message"]
    assert (refused.status_code, refused.json()["data"]["reason"]) == (422, "upstream_refused")
    assert "temperature: Got 3.0" in refused.json()["message"]
