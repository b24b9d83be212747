"""The model list and its statistics over a running stack: odd ids, honest states, a catalog that changes."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from gateway.cluster.known_footprints import Footprints
from gateway.cluster.registry import Device
from gateway.jobs.statistics import BUCKET_S, WINDOW_S, Stats, counting, read_stats
from gateway.models.footprint import Footprint
from gateway.store import keys
from gateway.store.connection import pipeline
from tests.stack import Stack, eventually, running

ODD = "org/name:7b.q4@v1"
CONFIG = f"""
[models."{ODD}"]
capabilities = ["chat", "completion", "tool_use"]
engine = "fake"
max_tokens = 50
temperature = {{ min = 0.1, max = 0.9, default = 0.5 }}
presence_penalty = {{ min = 0, max = 0, default = 0 }}
pricing = {{ input_per_1k_tokens = 0.5, output_per_1k_tokens = 1.5, currency = "EUR" }}
[models.broken]
capabilities = ["chat"]
engine = "openvino"
source = "/nowhere/model.gguf"
"""
BODY = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 3}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("s"), {"fake": {}, ODD: {}}, catalog=CONFIG) as stack:
        yield stack


def test_every_state_has_its_word(client: httpx.Client) -> None:
    listed = {model["id"]: model for model in client.get("/models").json()["data"]["models"]}
    states = {model_id: model["status"] for model_id, model in listed.items()}
    assert states["fake"] == states[ODD] == "active"
    assert states["smollm2-135m"] == "inactive"
    assert states["broken"] == states["qwen3-7b"] == "no_weights"
    assert states["gpt-4"] == states["claude-3"] == "no_credentials"
    assert listed["gpt-4"].keys() == {
        *("id", "name", "description", "version", "capabilities", "provider", "status"),
    }
    assert listed["qwen3-7b"]["deployment"] == {"type": "local", "hardware": "none", "quantization": "int8"}
    assert "CPU" in listed["fake"]["deployment"]["hardware"]


def test_weights_of_another_machine_count(stack: Stack, client: httpx.Client) -> None:
    """Its agent says what it has; the machine of the web process need not have it."""

    def status() -> str:
        return str(client.get("/models/broken").json()["data"]["status"])

    there = Device(incarnation="agent:x", node="n9", device="cpu0", pid=1, engines=("openvino",))
    Footprints(stack.redis).publish("n9", "cpu0", {"broken": Footprint(format="gguf")})
    assert status() == "no_weights"
    stack.registry.beat_device(there, lease_s=30)
    try:
        eventually(lambda: status() == "inactive", "it could be deployed there")
    finally:
        stack.registry.deregister("agent:x")
    eventually(lambda: status() == "no_weights", "that machine is gone")


def test_an_id_with_slash_colon_and_dot_works_on_every_path(client: httpx.Client) -> None:
    detail = client.get(f"/models/{ODD}").json()["data"]
    assert (detail["id"], detail["status"]) == (ODD, "active")
    assert detail["parameters"]["temperature"] == {"min": 0.1, "max": 0.9, "default": 0.5}
    assert detail["pricing"] == {"input_per_1k_tokens": 0.5, "output_per_1k_tokens": 1.5, "currency": "EUR"}
    assert client.post(f"/models/{ODD}/chat/completions", json=BODY).json()["data"]["model"] == ODD
    quoted = "org%2Fname%3A7b.q4%40v1"
    assert client.post(f"/models/{quoted}/completions", json={"prompt": "x", "max_tokens": 1}).status_code == 200


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("temperature", 1.0, "Got 1.0; org/name:7b.q4@v1 allows 0.1 to 0.9."),
        ("presence_penalty", 1.0, "Got 1.0; org/name:7b.q4@v1 allows 0.0 to 0.0."),
        ("max_tokens", 51, "Got 51; org/name:7b.q4@v1 allows 1 to 50."),
    ],
)
def test_a_value_out_of_the_models_range_is_named(client: httpx.Client, field: str, value: float, says: str) -> None:
    response = client.post(f"/models/{ODD}/chat/completions", json={**BODY, field: value})
    assert response.status_code == 422
    assert response.json()["data"]["errors"] == {field: [says]}


def test_a_conversation_with_tools_reaches_the_model(client: httpx.Client) -> None:
    """The fake tokenizer counts the words of all that it is given."""
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Bern"}'}}
    turns = [
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "how is"}, {"type": "text", "text": " it"}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
    ]
    tools = [{"type": "function", "function": {"name": "weather", "description": "tells the weather"}}]

    def prompt_tokens(**more: object) -> int:
        response = client.post(f"/models/{ODD}/chat/completions", json={"messages": turns, "max_tokens": 1, **more})
        return int(response.json()["data"]["usage"]["prompt_tokens"])

    without = prompt_tokens()
    assert without == 6 + 5  # the words of the texts, and of the call as JSON
    assert prompt_tokens(tools=tools) > without
    assert prompt_tokens(tools=tools, tool_choice="auto", parallel_tool_calls=True) > without
    assert prompt_tokens(tools=tools, tool_choice="none") == without


def test_statistics_are_measured_from_the_jobs(stack: Stack, client: httpx.Client) -> None:
    def stats() -> dict[str, float]:
        found: dict[str, float] = client.get("/models/fake").json()["data"]["stats"]
        return found

    assert stats() == {"average_latency_ms": None, "availability": 1.0, "requests": 0, "window_s": 3600}
    client.post("/models/fake/chat/completions", json=BODY)
    refused = client.post("/models/fake/chat/completions", json={**BODY, "presence_penalty": 1})
    assert refused.json()["data"]["reason"] == "invalid_request"
    measured = eventually(lambda: (s := stats())["requests"] == 1 and s, "the answer was counted")
    assert measured["availability"] == 1.0
    assert measured["average_latency_ms"] > 0
    assert client.post("/models/gpt-4/chat/completions", json=BODY).status_code == 503
    gone = client.get("/models/gpt-4").json()["data"]["stats"]
    assert (gone["availability"], gone["requests"], gone["average_latency_ms"]) == (0.0, 1, None)


def test_statistics_forget_what_is_older_than_their_window(stack: Stack) -> None:
    now_ms = stack.store.clock.now_ms()
    began_ms = now_ms - WINDOW_S * 1000
    for at_ms, new in (
        (began_ms, Stats(answered=1, total_ms=10_000)),
        (began_ms + BUCKET_S * 1000, Stats(answered=1, total_ms=100)),
        (now_ms, Stats(answered=1, total_ms=200) + Stats(failed=1)),
    ):
        pipeline(stack.redis, counting({"m": new}, now_ms=at_ms))
    stats = read_stats(stack.redis, ["m"], now_ms=now_ms)["m"]
    assert (stats.answered, stats.failed, stats.average_latency_ms, stats.availability) == (2, 1, 150, 0.6667)
    kept = stack.redis.keys(keys.stats("m", 0)[:-1] + "*")
    assert len(kept) == 3, "one for each of the times"
    assert min(stack.redis.ttl(key) for key in kept) > 0


def test_a_changed_catalog_is_in_force_without_a_restart(stack: Stack, client: httpx.Client) -> None:
    config = stack.settings.config
    config.write_text(CONFIG + '\n[models.added]\ncapabilities = ["chat"]\n[models.fake]\nmax_tokens = 2\n')
    eventually(lambda: client.get("/models/added").status_code == 200, "the new model is listed")
    assert client.post("/models/fake/chat/completions", json=BODY).status_code == 422
    config.write_text(CONFIG + "\n[models.added]\nmax_tokens = 0\n")
    eventually(lambda: client.get("/health/ready").json()["data"]["catalog"] == "stale", "the mistake shows")
    assert client.get("/models/added").status_code == 200
    config.write_text(CONFIG)
    eventually(lambda: client.get("/models/added").status_code == 404, "the model is gone")
    assert client.post("/models/fake/chat/completions", json=BODY).status_code == 200
    assert client.get("/health/ready").json()["data"]["catalog"] == "healthy"
