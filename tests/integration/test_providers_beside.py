"""Providers that send odd values, and what they say beside an answer, through all processes and both faces."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.rpc import client as rpc_client
from tests.rpc import start_rpc
from tests.upstreams.scripted import Reply, ScriptedServer, call, chunk, messages, sse, whole
from tests.upstreams.world import PATIENT, Tables, World
from tests.upstreams.world import world as run
from web.rpc.stubs import model_pb2 as pb

OK = sse(chunk({"content": "fine"}), chunk({}, "stop"))
TOOLS = [{"type": "function", "function": {"name": "a"}}]
USAGE = {
    "prompt_tokens": 9,
    "completion_tokens": 5,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 3},
}
SIGNED = {
    "id": "c1",
    "type": "function",
    "function": {"name": "a", "arguments": "{}"},
    "extra_content": {"google": {"thought_signature": "AbC="}},
}
THOUGHTFUL = sse(
    chunk({"reasoning_content": "Let me"}),
    chunk({"tool_calls": [{"index": 0, **SIGNED}]}),
    chunk({}, "tool_calls"),
    chunk(usage=USAGE),
)
ODD: dict[str, Reply] = {
    "halfargs": sse(call(index=0, id="c1", function={"name": "say", "arguments": "\ud83d"}), chunk({}, "tool_calls")),
    "objargs": sse(call(index=0, id="c1", function={"name": "say", "arguments": {"x": 1}}), chunk({}, "tool_calls")),
    "halfid": sse(call(index=0, id="\ud83d", function={"name": "\ude0a", "arguments": ""}), chunk({}, "tool_calls")),
    "huge": sse(chunk({"content": "x", "more": 10**400}), chunk({}, "stop"), chunk(usage={"prompt_tokens": 10**40})),
    "nan": sse(chunk({"content": "x", "more": [float("nan"), float("inf")]}), chunk({}, "stop")),
    "deep": sse(chunk({"content": "x"}), f'{{"more":{"[" * 900}{"]" * 900}}}', chunk({}, "stop")),
    "types": sse(chunk({"content": {"text": ["x", {"y": 1}]}, "tool_calls": "x", "role": 5}), chunk({}, ["stop"])),
    "nodone": sse(chunk({"content": "x"}), done=False),
    "notjson": sse("{"),
    "texterr": whole({"error": "max context is 4096"}, 400),
    "limited": whole({"error": "slow"}, 429, **{"Retry-After": "25.4"}),
    "limitedms": whole({"error": "slow"}, 429, **{"retry-after-ms": "300"}),
    "limitedinf": whole({"error": "slow"}, 429, **{"Retry-After": "inf"}),
    "allzero": whole({"data": [{"index": 0, "embedding": [1.0, 0.5]}] * 3}),
}


@pytest.fixture(scope="module")
def server() -> Iterator[ScriptedServer]:
    text = [{"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "fine"}}]
    end = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}}
    server = ScriptedServer({"ok": OK, "thoughtful": THOUGHTFUL, "claude": messages(*text, end), **ODD})
    yield server
    server.close()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, server: ScriptedServer) -> Iterator[World]:
    def tables(_openai_url: str, _anthropic_url: str) -> tuple[Tables, Tables]:
        odd = {"protocol": "openai", "base_url": f"{server.url}/v1", **PATIENT, "max_retries": 0}
        providers = {"odd": odd, "an": {**odd, "protocol": "anthropic", "base_url": server.url}}
        model = {"capabilities": ["chat", "tool_use", "embedding"], "provider": "odd", "on_interrupt": "fail"}
        models = {f"odd/{name}": {**model, "upstream": name} for name in server.replies if name != "claude"}
        return providers, {**models, "claude": {**model, "provider": "an", "upstream": "claude"}}

    with run(tmp_path_factory.mktemp("s"), tables, breaker_failures=100) as found:
        start_rpc(found.stack)
        yield found


def sdk(world: World) -> openai.OpenAI:
    """OpenAI's own client."""
    return openai.OpenAI(base_url=f"{world.stack.url}/v1", api_key="hr-test-bootstrap-key", max_retries=0)


#: Those that are no answer, with what the client is told.
NO_ANSWER = {
    "nodone": "upstream_interrupted",
    "notjson": "upstream_malformed",
    "texterr": "upstream_refused",
    **dict.fromkeys(("limited", "limitedms", "limitedinf"), "upstream_rate_limited"),
    "allzero": "upstream_error",
}


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("stream", [False, True])
def test_an_odd_value_ends_its_own_job_at_most(world: World, name: str, stream: bool) -> None:
    worker = world.stack.registry.providers()[0]
    body: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}], "tools": TOOLS, "stream": stream}
    with world.stack.client() as client:
        answered = client.post(f"/models/odd/{name}/chat/completions", json=body, timeout=60)
    reason = NO_ANSWER.get(name)
    assert (f'"reason":"{reason}"' in answered.text) if reason else ('"reason":' not in answered.text)
    assert world.ask("odd/ok").json()["data"]["choices"][0]["message"]["content"] == "fine"
    assert [found.pid for found in world.stack.registry.providers()] == [worker.pid]


@pytest.mark.parametrize(("name", "wait"), [("limited", "26"), ("limitedms", "1"), ("limitedinf", None)])
def test_a_wait_is_rounded_up(world: World, name: str, wait: str | None) -> None:
    answered = world.ask(f"odd/{name}")
    assert (answered.status_code, answered.headers.get("Retry-After")) == (429, wait)


def test_vectors_without_an_index_of_their_own_are_refused(world: World) -> None:
    with world.stack.client() as client:
        answered = client.post("/models/odd/allzero/embeddings", json={"input": ["a", "b", "c"]})
    assert (answered.status_code, answered.json()["data"]["reason"]) == (502, "upstream_malformed")


@pytest.mark.parametrize("stream", [False, True])
def test_what_is_beside_an_answer_goes_back_to_its_provider_only(
    world: World, server: ScriptedServer, stream: bool
) -> None:
    turns: list[Any] = [{"role": "user", "content": "hi"}]
    with sdk(world) as client:
        if stream:
            with client.chat.completions.stream(model="odd/thoughtful", messages=turns, tools=TOOLS) as events:
                for _ in events:
                    continue
                message = events.get_final_completion().choices[0].message
        else:
            made = client.chat.completions.create(model="odd/thoughtful", messages=turns, tools=TOOLS)
            message = made.choices[0].message
        back = message.model_dump()
        assert back["reasoning_content"] == "Let me"
        assert back["tool_calls"][0]["extra_content"] == SIGNED["extra_content"]
        turns += [back, {"role": "tool", "tool_call_id": "c1", "content": "7"}]
        client.chat.completions.create(model="odd/ok", messages=turns, tools=TOOLS)
        sent = server.received[-1].body["messages"][1]
        assert (sent["content"], sent["reasoning_content"]) == (None, "Let me")
        assert sent["tool_calls"][0]["extra_content"] == SIGNED["extra_content"]
        assert "provider" not in sent
        client.chat.completions.create(model="claude", messages=turns, tools=TOOLS)
        sent = server.received[-1].body["messages"][1]
        assert sent["content"] == [{"type": "tool_use", "id": "c1", "name": "a", "input": {}}]


def test_cached_and_reasoning_tokens_are_told(world: World) -> None:
    body: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}], "tools": TOOLS}
    usage = world.post("odd/thoughtful/chat/completions", **body)["usage"]
    assert usage == {**USAGE, "total_tokens": 14}
    with world.stack.client() as client:
        options = {"stream": True, "stream_options": {"include_usage": True}}
        answered = client.post("/models/odd/thoughtful/chat/completions", json={**body, **options})
        assert '"prompt_tokens_details":{"cached_tokens":4}' in answered.text
        assert world.job(answered.headers["X-Job-Id"])["usage"] == usage


def test_both_faces_tell_what_is_beside_an_answer(world: World, server: ScriptedServer) -> None:
    asked = pb.ChatCompletionRequest(model_id="odd/thoughtful", messages=[pb.Message(role="user", content="hi")])
    asked.tools.add(type="function").function.name = "a"
    asked.stream_options.include_usage = True
    with rpc_client(world.stack) as client:
        answered = client.call("CreateChatCompletion", asked)
        message = answered.choices[0].message
        assert message.reasoning_content == "Let me"
        assert message.tool_calls[0].extra["extra_content"]["google"]["thought_signature"] == "AbC="
        assert answered.usage.prompt_tokens_details.cached_tokens == 4
        assert answered.usage.completion_tokens_details.reasoning_tokens == 3
        chunks = list(client.call("CreateChatCompletionStream", asked))
        deltas = [choice.delta for found in chunks for choice in found.choices]
        assert "".join(delta.reasoning_content for delta in deltas) == "Let me"
        asked.model_id = "odd/ok"
        message.tool_calls[0].function.extra["note"] = "n"
        asked.messages.append(message)
        asked.messages.add(role="tool", tool_call_id="c1", content="7")
        client.call("CreateChatCompletion", asked)
    sent = server.received[-1].body["messages"][1]
    assert sent["reasoning_content"] == "Let me"
    assert sent["tool_calls"][0] == {**SIGNED, "function": {**SIGNED["function"], "note": "n"}}


#: Turns as clients keep them.
TURNS: list[dict[str, Any]] = [
    {"role": "assistant", "content": "hi", "refusal": None, "tool_calls": None, "function_call": None, "audio": None},
    {"role": "assistant", "content": None, "refusal": "no", "annotations": [], "tool_calls": []},
    {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}], "name": None},
    {"role": "assistant", "content": None},
    {"role": "assistant", "content": "hi", "reasoning_content": "hm", "audio": {"id": "a1"}, "id": "msg_1"},
    {"role": "assistant", "content": None, "function_call": {"name": "a", "arguments": "{}"}},
    {"role": "assistant", "content": "hi", "function_call": {"name": None, "arguments": None}, "tool_call_id": ""},
]


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/models/odd/ok/chat/completions"])
@pytest.mark.parametrize("model", ["odd/ok", "claude", "fake"])
def test_a_turn_of_an_answer_is_taken_as_clients_keep_it(
    world: World, turn: dict[str, Any], path: str, model: str
) -> None:
    user = {"role": "user", "content": "hi"}
    body = {"messages": [user, turn, user], "max_tokens": 5, **({"model": model} if path.startswith("/v1") else {})}
    with world.stack.client() as client:
        answered = client.post(path.replace("odd/ok", model), json=body)
    assert answered.status_code == 200, answered.text


def test_a_call_is_taken_as_the_model_has_written_it(world: World, server: ScriptedServer) -> None:
    broken = '{"a": "He said "x""}'
    made = {"index": 0, "id": "c1", "type": "function", "function": {"name": "a.b c", "arguments": broken}}
    turns = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": None, "tool_calls": [made]},
        {"role": "tool", "tool_call_id": "c1", "content": "7"},
    ]
    world.post("odd/ok/chat/completions", messages=turns, tools=TOOLS)
    sent = server.received[-1].body["messages"][1]["tool_calls"]
    assert sent == [{name: value for name, value in made.items() if name != "index"}]
    world.post("claude/chat/completions", messages=turns, tools=TOOLS)
    sent = server.received[-1].body["messages"][1]["content"]
    assert sent == [{"type": "tool_use", "id": "c1", "name": "a_b_c", "input": {"raw": broken}}]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/models/odd/ok/chat/completions"])
def test_a_null_is_nothing_in_a_history(world: World, server: ScriptedServer, path: str) -> None:
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}
    made = {"id": None, "type": "function", "function": {"name": "a", "arguments": [1]}}
    turns = [
        {"role": "user", "content": [{"type": "text", "text": "hi"}, {"type": "text", "text": None}]},
        {"role": "assistant", "content": [thought, {"type": "text", "text": "well"}], "name": "", "tool_calls": [made]},
        {"role": "tool", "tool_call_id": "", "content": None},
    ]
    body = {"messages": turns, "tools": TOOLS, **({"model": "odd/ok"} if path.startswith("/v1") else {})}
    with world.stack.client() as client:
        answered = client.post(path, json=body)
    assert answered.status_code == 200, answered.text
    user, called, result = server.received[-1].body["messages"]
    assert user == {"role": "user", "content": "hi"}
    [sent] = called["tool_calls"]
    assert (called["content"], sent["function"]["arguments"]) == ("well", "[1]")
    assert sent["id"]
    assert result == {"role": "tool", "tool_call_id": sent["id"], "content": ""}


def test_functions_of_the_old_form_are_tools(world: World, server: ScriptedServer) -> None:
    turns = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": None, "function_call": {"name": "a", "arguments": "{}"}},
        {"role": "function", "name": "a", "content": "7"},
    ]
    world.post("odd/ok/chat/completions", messages=turns, tools=TOOLS)
    _, called, result = server.received[-1].body["messages"]
    assert called["tool_calls"][0]["function"] == {"name": "a", "arguments": "{}"}
    assert (result["role"], result["tool_call_id"]) == ("tool", called["tool_calls"][0]["id"])
