"""Remote models: a provider worker over servers that speak the providers' protocols, and fail as they do."""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.store.codec import loads
from tests.stack import chat, eventually, free_port
from tests.upstreams.base import WORDS, Fault, Upstream, answer
from tests.upstreams.openai import vector
from tests.upstreams.world import KEYS, PATIENT, Tables, World
from tests.upstreams.world import world as run

IMPATIENT = {"first_byte_timeout_s": 1.5, "between_timeout_s": 1.0, "max_retries": 1}
CHATS = ["oa-model", "an-model"]


def tables(openai_url: str, anthropic_url: str) -> tuple[Tables, Tables]:
    oa = {"protocol": "openai", "base_url": openai_url, "api_key_env": "UP_OPENAI_KEY", **PATIENT}
    an = {"protocol": "anthropic", "base_url": anthropic_url, "api_key_env": "UP_ANTHROPIC_KEY", **PATIENT}
    providers = {
        "oa": oa,
        "oa-impatient": {**oa, **IMPATIENT},
        "oa-wrong": {**oa, "api_key_env": "UP_WRONG_KEY"},
        "an": an,
        "an-impatient": {**an, **IMPATIENT},
        "an-wrong": {**an, "api_key_env": "UP_WRONG_KEY"},
        "nowhere": {**oa, "base_url": f"http://127.0.0.1:{free_port()}/v1", "max_retries": 0},
    }
    model = {
        "capabilities": ["chat", "completion", "embedding", "tool_use"],
        "upstream": "gpt-4",
        "upstreams": {"embedding": "embedder"},
        "on_interrupt": "fail",
    }
    return providers, {f"{provider}-model": {**model, "provider": provider} for provider in providers}


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("s")
    with run(folder, tables, log_level="debug", breaker_failures=4, breaker_open_s=5.0) as world:
        yield world


@pytest.fixture
def world(started: World) -> World:
    """Each test begins with servers that do nothing wrong."""
    started.calm()
    return started


def server(world: World, model: str) -> Upstream:
    """The server behind a model."""
    return world.anthropic if model.startswith("an") else world.openai


@pytest.mark.parametrize("model", CHATS)
def test_a_chat_is_streamed_whole_and_counted_by_the_provider(world: World, model: str) -> None:
    stream = chat(world.stack, "one two three", model=model).join()
    assert (stream.text, stream.finish_reason, stream.error) == (answer(), "stop", None)
    assert world.job(stream.job_id)["usage"] == {"prompt_tokens": 3, "completion_tokens": 12, "total_tokens": 15}
    with world.stack.client() as client:
        body: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}
        whole = client.post(f"/models/{model}/chat/completions", json=body).json()["data"]
    choice = whole["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == (answer(5), "length")
    assert whole["usage"] == {"prompt_tokens": 1, "completion_tokens": 5, "total_tokens": 6}
    assert whole["model"] == model


@pytest.mark.parametrize("model", CHATS)
def test_a_cancelled_job_closes_its_call_at_once(world: World, model: str) -> None:
    upstream = server(world, model)
    upstream.faults.append(Fault("hold", after=3))
    stream = chat(world.stack, model=model)
    assert upstream.held.acquire(timeout=60)
    eventually(lambda: stream.text == answer(3), "all that the server has sent is there")
    with world.stack.client() as client:
        assert client.delete(f"/jobs/{stream.job_id}").json()["data"]["status"] in ("cancelling", "cancelled")
    assert upstream.left.acquire(timeout=60), "the server has seen the client leave"
    stream.join()
    assert (stream.text, stream.finish_reason) == (answer(3), "cancelled")


@pytest.mark.parametrize("model", CHATS)
def test_a_call_that_fails_before_the_first_byte_is_made_again(world: World, model: str) -> None:
    upstream = server(world, model)
    upstream.faults += [Fault("status", status=500), Fault("cut")]
    stream = chat(world.stack, model=model).join()
    assert (stream.text, stream.error) == (answer(), None)
    assert len(upstream.received) == 3
    calls = [event for event in world.stack.journal(stream.job_id) if event.type in ("started", "resumed")]
    assert [call.body.get("reason") for call in calls] == [None, "upstream_error", "upstream_interrupted"]
    assert world.job(stream.job_id)["usage"]["prompt_tokens"] > 1, "the stream that was cut had begun"
    upstream.faults.append(Fault("status", status=500))
    used = world.ask(model).json()["data"]["usage"]
    assert (used["prompt_tokens"], used["completion_tokens"]) == (1, 12), "what brought nothing counts nothing"


@pytest.mark.parametrize("model", CHATS)
def test_retry_after_is_obeyed(world: World, model: str) -> None:
    upstream = server(world, model)
    upstream.faults.append(Fault("status", status=429, headers={"Retry-After": "1"}))
    assert world.ask(model).status_code == 200
    first, second = upstream.received
    assert second.at - first.at >= 1
    upstream.faults.append(Fault("status", status=429, headers={"Retry-After": "60"}))
    limited = world.ask(model)
    assert (limited.status_code, limited.headers["Retry-After"]) == (429, "60")
    data = limited.json()["data"]
    assert (data["reason"], data["retryable"]) == ("upstream_rate_limited", True)
    assert len(upstream.received) == 3, "it is not asked before the time"


WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@pytest.mark.parametrize("model", CHATS)
def test_a_tool_is_called_and_its_result_goes_back(world: World, model: str) -> None:
    turns: list[Any] = [{"role": "user", "content": "hi"}]
    path = f"{model}/chat/completions"
    answered = world.post(path, messages=turns, tools=[WEATHER], tool_choice="required", parallel_tool_calls=False)
    choice = answered["choices"][0]
    assert (choice["finish_reason"], choice["message"]["content"]) == ("tool_calls", None)
    called = choice["message"]["tool_calls"]
    function = {"name": "weather", "arguments": '{"city": "Grüße"}'}
    assert called == [{"id": "call_1", "type": "function", "function": function}]
    assert answered["usage"]["completion_tokens"] == 3
    turns += [choice["message"], {"role": "tool", "tool_call_id": "call_1", "content": "sunny"}]
    assert world.post(path, messages=turns, tools=[WEATHER])["choices"][0]["message"]["content"] == answer()
    first, second = (received.body for received in server(world, model).received)
    if model == "oa-model":
        assert (first["tools"], first["tool_choice"], first["parallel_tool_calls"]) == ([WEATHER], "required", False)
        assert [turn["role"] for turn in second["messages"]] == ["user", "assistant", "tool"]
    else:
        assert first["tools"][0]["input_schema"] == WEATHER["function"]["parameters"]
        assert first["tool_choice"] == {"type": "any", "disable_parallel_tool_use": True}
        use = {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": "Grüße"}}
        result = {"type": "tool_result", "tool_use_id": "call_1", "content": "sunny"}
        assert [turn["content"] for turn in second["messages"]] == ["hi", [use], [result]]


@pytest.mark.parametrize("model", CHATS)
def test_calls_of_tools_are_streamed(world: World, model: str) -> None:
    body: Any = {"messages": [{"role": "user", "content": "hi"}], "tools": [WEATHER], "stream": True}
    arguments = ""
    with world.stack.client() as client, client.stream("POST", f"/models/{model}/chat/completions", json=body) as lines:
        for line in lines.iter_lines():
            if line.startswith("data: {"):
                for choice in loads(line.removeprefix("data: "))["choices"]:
                    for call in choice["delta"].get("tool_calls", ()):
                        arguments += call["function"].get("arguments", "")
    assert arguments == '{"city": "Grüße"}'


def test_parameters_reach_their_provider_in_its_own_words(world: World) -> None:
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}]
    common: dict[str, Any] = {"messages": turns, "max_tokens": 3, "stop": ["x", "y"], "user": "u1"}
    world.post("oa-model/chat/completions", temperature=0.5, seed=7, frequency_penalty=0.5, top_k=4, **common)
    sent = world.openai.received[-1].body
    wanted = {"model": "gpt-4", "temperature": 0.5, "seed": 7, "frequency_penalty": 0.5, "top_k": 4}
    assert wanted.items() <= sent.items()
    assert (sent["messages"], sent["max_tokens"], sent["stop"], sent["user"]) == (turns, 3, ["x", "y"], "u1")
    assert "top_p" not in sent, "what is at rest is not sent"
    world.post("an-model/chat/completions", temperature=0.5, top_k=4, **common)
    plain, received = {"role": "user", "content": "hi"}, world.anthropic.received[-1]
    assert (received.body["system"], received.body["messages"]) == ("Be brief.", [plain])
    wanted = {"max_tokens": 3, "temperature": 0.5, "top_k": 4, "stop_sequences": ["x", "y"]}
    assert wanted.items() <= received.body.items()
    assert received.body["metadata"] == {"user_id": "u1"}
    assert received.headers["anthropic-version"] == "2023-06-01", "the newer version takes no temperature"
    world.ask("an-model")
    assert world.anthropic.received[-1].headers["anthropic-version"] > "2023-06-01"


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("an-model/chat/completions", {"messages": [{"role": "user", "content": "hi"}], "seed": 1}, "seed"),
        ("an-model/chat/completions", {"messages": [{"role": "user", "content": "hi"}], "logprobs": True}, "logprobs"),
        ("an-model/embeddings", {"input": "hi"}, "input"),
        ("oa-model/completions", {"prompt": "hi", "echo": True, "logprobs": 0}, "echo"),
        ("oa-model/completions", {"prompt": "hi", "seed": 1, "require_exact_resume": True}, "require_exact_resume"),
    ],
)
def test_what_a_provider_has_no_word_for_is_refused(world: World, path: str, body: Any, field: str) -> None:
    with world.stack.client() as client:
        response = client.post(f"/models/{path}", json=body)
    assert (response.status_code, response.json()["data"]["reason"]) == (422, "invalid_request")
    assert f"{field}: " in response.json()["message"]
    assert not world.openai.received and not world.anthropic.received


IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
LOOK = [{"role": "user", "content": [{"type": "text", "text": "Look."}, IMAGE]}]
CUSTOM = {"type": "custom", "custom": {"name": "code"}}


def test_images_and_choices_of_tools_reach_their_provider_in_its_own_words(world: World) -> None:
    tools = [WEATHER, {"type": "function", "function": {"name": "other"}}]
    name = WEATHER["function"]["name"]
    only = {"mode": "required", "tools": [{"type": "function", "function": {"name": name}}]}
    asked = {"messages": LOOK, "tools": tools, "tool_choice": {"type": "allowed_tools", "allowed_tools": only}}
    for model in ("oa-model", "an-model"):
        answered = world.post(f"{model}/chat/completions", **asked)
        assert answered["choices"][0]["finish_reason"] == "tool_calls"
    sent = world.openai.received[-1].body
    assert (sent["messages"], sent["tool_choice"]) == (LOOK, asked["tool_choice"])
    sent = world.anthropic.received[-1].body
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}}
    assert sent["messages"] == [{"role": "user", "content": [{"type": "text", "text": "Look."}, image]}]
    assert ([tool["name"] for tool in sent["tools"]], sent["tool_choice"]) == ([name], {"type": "any"})


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("fake/chat/completions", {"messages": LOOK}, "messages.0.content"),
        ("an-model/chat/completions", {"messages": LOOK, "tools": [CUSTOM]}, "tools.0"),
    ],
)
def test_who_can_not_read_it_is_not_asked(world: World, path: str, body: Any, field: str) -> None:
    with world.stack.client() as client:
        response = client.post(f"/models/{path}", json=body)
        assert response.status_code == 422
        assert list(response.json()["data"]["errors"]) == [field]
    assert not world.anthropic.received, "it was refused before there was a job"


#: What OpenAI's clients, and vLLM's, say besides.
SAID: dict[str, Any] = {
    "metadata": {"a": "b"},
    "verbosity": "low",
    "service_tier": "flex",
    "prediction": {"type": "content", "content": "x"},
    "modalities": ["text"],
    "prompt_cache_key": "k",
    "reasoning_effort": "low",
    "chat_template_kwargs": {"enable_thinking": True},
    "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}},
    "ignore_eos": True,
    "seed": 7,
}


def test_whatever_is_said_below_v1_reaches_its_provider_or_is_named(world: World) -> None:
    turns = [{"role": "user", "name": "Ann", "content": "hi"}]
    asked: dict[str, Any] = {"messages": turns, "max_tokens": 3, "priority": "background", "timeout": 60}
    with world.stack.client() as client:
        passed = client.post("/v1/chat/completions", json={"model": "oa-model", **asked, **SAID})
        named = client.post("/v1/chat/completions", json={"model": "an-model", **asked, **SAID})
    assert (passed.status_code, named.status_code) == (200, 200), passed.text + named.text
    sent = world.openai.received[-1].body
    assert SAID.items() <= sent.items()
    assert sent.keys() - SAID.keys() == {"model", "messages", "max_tokens", "stream", "stream_options"}
    assert "X-Ignored-Fields" not in passed.headers
    sent = world.anthropic.received[-1].body
    assert sent["output_config"] == {"format": {"type": "json_schema", "schema": {"type": "object"}}}
    assert sent["messages"] == [{"role": "user", "content": "hi"}]
    ignored = "messages.0.name, metadata, modalities, prediction, prompt_cache_key, seed, service_tier, verbosity"
    assert named.headers["X-Ignored-Fields"] == f"ignore_eos, {ignored}"


@pytest.mark.parametrize(("model", "prompt_tokens"), [("oa-model", 1), ("an-model", 2)])
def test_several_answers_to_one_request(world: World, model: str, prompt_tokens: int) -> None:
    answered = world.post(f"{model}/chat/completions", messages=[{"role": "user", "content": "hi"}], n=2, max_tokens=4)
    assert [choice["message"]["content"] for choice in answered["choices"]] == [answer(4)] * 2
    assert (answered["usage"]["prompt_tokens"], answered["usage"]["completion_tokens"]) == (prompt_tokens, 8)
    assert len(server(world, model).received) == prompt_tokens, "Anthropic's API gives one answer a call"


@pytest.mark.parametrize("model", CHATS)
def test_completions(world: World, model: str) -> None:
    answered = world.post(f"{model}/completions", prompt=["one two", "three"], max_tokens=4, echo=True)
    assert [choice["text"] for choice in answered["choices"]] == [f"one two{answer(4)}", f"three{answer(4)}"]
    assert answered["usage"] == {"prompt_tokens": 3, "completion_tokens": 8, "total_tokens": 11}


def test_an_answer_that_lacks_only_its_count_is_whole(world: World) -> None:
    world.openai.faults.append(Fault("cut", after=WORDS))
    stream = chat(world.stack, "one two three", model="oa-model", max_tokens=WORDS).join()
    assert (stream.text, stream.error) == (answer(), None)
    assert world.job(stream.job_id)["usage"]["completion_tokens"] > 0
    assert world.stack.journal(stream.job_id)[-1].body["estimated"] is True


def test_log_probabilities_of_the_chosen_tokens(world: World) -> None:
    turns = [{"role": "user", "content": "hi"}]
    shown = world.post("oa-model/chat/completions", messages=turns, logprobs=True, max_tokens=2)
    entries = shown["choices"][0]["logprobs"]["content"]
    assert [(entry["token"], entry["logprob"]) for entry in entries] == [("Grüße", -0.5), (" aus", -0.5)]


def test_embeddings(world: World) -> None:
    answered = world.post("oa-model/embeddings", input=["one two", "drei"], dimensions=4)
    assert [item["embedding"] for item in answered["data"]] == [vector("one two", 4), vector("drei", 4)]
    assert answered["usage"] == {"prompt_tokens": 3, "total_tokens": 3}
    packed = world.post("oa-model/embeddings", input="drei", encoding_format="base64")["data"][0]["embedding"]
    assert list(struct.unpack("<8f", base64.b64decode(packed))) == vector("drei", 8)
    assert world.openai.received[-1].body["model"] == "embedder"


#: Model, fault, status, reason, whether it may be tried again, number of calls.
FAILURES = [
    *(
        case
        for name in ("oa", "an")
        for case in [
            (f"{name}-model", Fault("status", status=400), 422, "upstream_refused", False, 1),
            (f"{name}-model", Fault("status", status=404), 502, "upstream_error", False, 1),
            (f"{name}-model", Fault("status", status=503), 502, "upstream_error", True, 3),
            (f"{name}-wrong-model", None, 502, "upstream_auth", False, 1),
            (f"{name}-impatient-model", Fault("hold", after=-1), 504, "upstream_timeout", True, 2),
        ]
    ),
    ("nowhere-model", None, 502, "upstream_unreachable", True, 0),
]


@pytest.mark.parametrize(("model", "fault", "status", "reason", "retryable", "calls"), FAILURES)
def test_a_failure_says_who_failed_and_whether_to_try_again(
    world: World, model: str, fault: Fault | None, status: int, reason: str, retryable: bool, calls: int
) -> None:
    upstream = server(world, model)
    upstream.faults += [fault] * 3
    response = world.ask(model)
    data = response.json()["data"]
    assert (response.status_code, data["reason"], data["retryable"]) == (status, reason, retryable)
    assert data["provider"] == model.removesuffix("-model")
    assert data["provider"] in response.json()["message"]
    assert len(upstream.received) == calls


BREAKS = [
    (f"{name}-{provider}", fault, reason)
    for name in ("oa", "an")
    for provider, fault, reason in [
        ("model", Fault("cut", after=4), "upstream_interrupted"),
        ("model", Fault("end", after=4), "upstream_interrupted"),
        ("model", Fault("malformed", after=4), "upstream_malformed"),
        ("model", Fault("error", after=4), "upstream_error"),
        ("impatient-model", Fault("hold", after=4), "upstream_timeout"),
    ]
]


@pytest.mark.parametrize(("model", "fault", "reason"), BREAKS)
def test_a_stream_that_breaks_ends_with_a_clear_error(world: World, model: str, fault: Fault, reason: str) -> None:
    upstream = server(world, model)
    upstream.faults.append(fault)
    stream = chat(world.stack, "one two three", model=model).join()
    assert stream.text == answer(4)
    assert stream.error is not None
    assert stream.error["data"]["reason"] == reason
    assert "broke in the middle" in stream.error["message"]
    assert len(upstream.received) == 1, "a second call would be paid for too"
    used = world.job(stream.job_id)["usage"]
    assert used["prompt_tokens"] > 0 and used["completion_tokens"] > 0, "what was brought is paid for"
    failed = world.stack.journal(stream.job_id)[-1]
    assert failed.body["estimated"] is True


def test_a_breaker_opens_is_seen_and_closes(world: World) -> None:
    world.openai.faults += [Fault("status", status=500)] * 4
    assert [world.ask("oa-model").status_code for _ in range(2)] == [502, 503]
    with world.stack.client() as client:
        eventually(
            lambda: client.get("/models/oa-model").json()["data"]["status"] == "unavailable", "the models say so"
        )
        assert client.get("/health/ready").json()["data"]["providers"]["oa"] == "unavailable"
        refused = world.ask("oa-model")
        assert (refused.status_code, refused.json()["data"]["reason"]) == (503, "upstream_unavailable")
        assert int(refused.headers["Retry-After"]) >= 1
        assert len(world.openai.received) == 4, "the provider is left alone"
        eventually(lambda: client.get("/models/oa-model").json()["data"]["status"] == "degraded", "it is tried again")
        assert client.get("/models/oa-model").json()["data"]["stats"]["availability"] < 1
        assert world.ask("oa-model").status_code == 200
        eventually(lambda: client.get("/models/oa-model").json()["data"]["status"] == "active", "it is well again")


def test_keys_leak_nowhere(world: World) -> None:
    world.openai.faults += [Fault("status", status=status) for status in (400, 500, 500, 500)]
    world.anthropic.faults.append(Fault("status", status=400))
    asked = ("oa-model", "oa-model", "oa-wrong-model", "an-model", "an-wrong-model")
    shown = [world.ask(model).text for model in asked]
    assert "[key]" in shown[0] and "[key]" in shown[3], "the server has sent the key back"
    with world.stack.client() as client:
        shown += [client.get("/jobs").text, client.get("/models").text, client.get("/health/ready").text]
    files = [path for path in world.stack.folder.rglob("*") if path.is_file()]
    assert any(path.suffix == ".aof" for path in files), "all that Redis was told"
    shown += [path.read_text(errors="replace") for path in files]
    for key in KEYS.values():
        assert not [text for text in shown if key in text]
        assert not [text for text in shown if key[-8:] in text]
