"""Shapes in which providers send their answers, over a real connection: what can be read is an answer, and the rest is
a clear error of that one call.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.errors import FAILURES
from gateway.models.entry import Provider
from tests.endless import LONG_S, endless
from tests.upstreams.direct import Direct, Outcome
from tests.upstreams.scripted import Reply, ScriptedServer, call, chunk, messages, sse, whole

END, TOOL_END = chunk({}, "stop"), chunk({}, "tool_calls")
TOOLS = [{"type": "function", "function": {"name": "a"}}]


@pytest.fixture(scope="module")
def server() -> Iterator[ScriptedServer]:
    server = ScriptedServer()
    yield server
    server.close()


@pytest.fixture(scope="module")
def openai(server: ScriptedServer) -> Iterator[Direct]:
    direct = Direct(Provider("odd", "openai", f"{server.url}/v1", first_byte_timeout_s=10, between_timeout_s=10))
    yield direct
    direct.close()


@pytest.fixture(scope="module")
def anthropic(server: ScriptedServer) -> Iterator[Direct]:
    direct = Direct(Provider("odd", "anthropic", server.url, first_byte_timeout_s=10, between_timeout_s=10))
    yield direct
    direct.close()


def asked(server: ScriptedServer, direct: Direct, reply: Reply, **more: Any) -> Outcome:
    """What comes of a reply."""
    server.replies["x"] = reply
    return direct.ask("x", **more)


USAGE = {"prompt_tokens": 1, "completion_tokens": 1}


def halves(text: str) -> str:
    """A chunk with that text, which may be half of a surrogate pair."""
    return json.dumps(chunk({"content": text}))


@pytest.mark.parametrize(
    ("events", "text"),
    [
        ([chunk({"content": "one"}), chunk(choices=None), chunk({"content": " two"}), END], "one two"),
        *(
            (
                [chunk({"content": "one"}), {**chunk(usage=USAGE), "choices": none}, chunk({"content": " two"}), END],
                "one two",
            )
            for none in (None, [])
        ),
        ([chunk({"content": "one"}), "null", "5", '"x"', "[]", chunk({"content": " two"}), END], "one two"),
        ([chunk({"content": [{"type": "text", "text": "Four."}]}), END], "Four."),
        ([chunk({"content": {"type": "text", "text": "Four."}}), END], "Four."),
        ([chunk({"content": "Paris."})], "Paris."),
        ([chunk({"content": "Paris."}), chunk(usage={"prompt_tokens": 7, "completion_tokens": 3})], "Paris."),
        ([chunk({"content": "hi \ud83d"}), chunk({"content": "\ude0a there"}), END], "hi 😊 there"),
        ([chunk({"content": "hi \ud83d"}), END], "hi \ufffd"),
        ([chunk({"content": "\ude0a there"}), END], "\ufffd there"),
        (
            [chunk({"content": "a\ud83d"}), chunk({}), chunk({"content": None}), chunk({"content": "\ude0a"}), END],
            "a😊",
        ),
        ([chunk({"content": 42}), END], "42"),
        ([{**chunk(), "choices": {"index": 0, "delta": {"content": "one"}, "finish_reason": "stop"}}], "one"),
        ([{**chunk(), "choices": [None, "x", {"delta": {"content": "one"}, "finish_reason": "stop"}]}], "one"),
        ([{"choices": [{"message": {"role": "assistant", "content": "one"}, "finish_reason": "stop"}]}], "one"),
        ([chunk({"content": "one"}, "eos"), chunk(usage={"prompt_tokens": "7", "completion_tokens": -1})], "one"),
        ([chunk({"content": "one"}, True), chunk(usage=[])], "one"),
        ([chunk({"content": "one"}), chunk({"content": ""}, error=None), END], "one"),
        ([{**chunk({"content": "one"}), "choices": [{"index": "0", "delta": {"content": "one"}}]}, END], "one"),
    ],
)
def test_lenient_shapes_of_a_chat_are_answers(
    server: ScriptedServer, openai: Direct, events: list[Any], text: str
) -> None:
    outcome = asked(server, openai, sse(*events))
    assert outcome.failure is None
    assert (outcome.text, outcome.answer["choices"][0]["finish_reason"]) == (text, "stop")
    shown = "".join(choice["delta"].get("content", "") for found in outcome.chunks for choice in found["choices"])
    assert shown == text


@pytest.mark.parametrize(
    "body",
    [
        b'data: {"choices":[{"index":0,"delta":{"content":"hi \xf0\x9f"}}]}\n\n'
        b'data: {"choices":[{"index":0,"delta":{"content":"\x98\x8a"},"finish_reason":"stop"}]}\n\n',
        'data: {"choices":[{"index":0,"delta":{"content":"hi 😊"},"finish_reason":"stop"}]}'.encode(),
        ': comment\r\n\r\nevent: x\r\ndata: {"choices":[{"index":0,"delta":\r\ndata: {"content":"hi 😊"}}]}\r\n\r\n'
        "data:[DONE]\r\n\r\n".encode(),
        'data: {"choices":[{"index":0,"delta":{"content":"hi 😊"}}]}\r\rdata: [DONE]\r\r'.encode(),
        '\ufeffdata: {"choices":[{"index":0,"delta":{"content":"hi 😊"}}]}\n\ndata: [DONE]'.encode(),
        '{"choices":[{"index":0,"message":{"content":"hi 😊"},"finish_reason":"stop"}]}'.encode(),
        ' \n[{"choices":[{"index":0,"message":{"content":"hi 😊"}}]}]'.encode(),
    ],
)
def test_bytes_may_come_in_any_form(server: ScriptedServer, openai: Direct, body: bytes) -> None:
    outcome = asked(server, openai, Reply(body))
    assert (outcome.failure, outcome.text) == (None, "hi 😊")


@pytest.mark.parametrize(
    ("events", "calls"),
    [
        (
            [
                call(index=0, id="call_a1", type="function", function={"name": "get_weather", "arguments": ""}),
                call(index=0, id="", type="function", function={"name": "", "arguments": '{"city": "Oslo"}'}),
            ],
            [("call_a1", "get_weather", '{"city": "Oslo"}')],
        ),
        (
            [
                call(index=0, id="call_one", type="function", function={"name": "a", "arguments": '{"x":1}'}),
                call(index=0, id="call_two", type="function", function={"name": "b", "arguments": '{"y":2}'}),
            ],
            [("call_one", "a", '{"x":1}'), ("call_two", "b", '{"y":2}')],
        ),
        (
            [
                call(id="one", function={"name": "a", "arguments": '{"x"'}),
                call(function={"arguments": ":1}"}),
                call(id="two", function={"name": "a", "arguments": "{}"}),
            ],
            [("one", "a", '{"x":1}'), ("two", "a", "{}")],
        ),
        (
            [
                call(index=0, id="c1", type="function", function={"name": "say", "arguments": '{"t": "\ud83d'}),
                call(index=0, function={"arguments": '\ude0a"}'}),
            ],
            [("c1", "say", '{"t": "😊"}')],
        ),
        ([call(index=0, id="c1", function={"name": "say", "arguments": "\ud83d"})], [("c1", "say", "\ufffd")]),
        (
            [call(index=0, id="c\ud83d", function={"name": "s\udc00", "arguments": "{}"})],
            [("c\ufffd", "s\ufffd", "{}")],
        ),
        (
            [call(index=0, id="c1", type="function", function={"name": "bash", "arguments": {"command": "ls"}})],
            [("c1", "bash", '{"command": "ls"}')],
        ),
        ([call(index=0, id="c1", function={"name": "a", "arguments": [1, None]})], [("c1", "a", "[1, null]")]),
        ([call(index=0, id="c1", function={"name": "a", "arguments": None})], [("c1", "a", "")]),
        ([call(index=0, id="c1", function={"name": "a", "arguments": 7})], [("c1", "a", "7")]),
        (
            [call(index=0, id="c1", function={"name": "a", "arguments": {"x": float("nan")}})],
            [("c1", "a", '{"x": null}')],
        ),
        ([call(index=-3, id="c1", name="a", arguments="{}")], [("c1", "a", "{}")]),
        (
            [chunk({"tool_calls": [None, 5, "x"]}), call(index=10**30, id="c1", function={"name": "a"})],
            [("c1", "a", "")],
        ),
        (
            [chunk({"tool_calls": {"index": 0, "id": "c1", "function": {"name": "a", "arguments": "{}"}}})],
            [("c1", "a", "{}")],
        ),
        ([call(index=0, id=5, function={"name": ["x"], "arguments": "{}"})], [(None, "", "{}")]),
        ([chunk({"function_call": {"name": "a", "arguments": "{}"}})], [(None, "a", "{}")]),
    ],
)
def test_calls_of_tools_come_whole(
    server: ScriptedServer, openai: Direct, events: list[Any], calls: list[tuple[str | None, str, str]]
) -> None:
    outcome = asked(server, openai, sse(*events, TOOL_END))
    assert outcome.failure is None
    found = outcome.message["tool_calls"]
    for made, (call_id, name, arguments) in zip(found, calls, strict=True):
        assert (made["function"]["name"], made["function"]["arguments"]) == (name, arguments)
        assert made["id"] == call_id or (call_id is None and made["id"].startswith("call_"))
    assert len({made["id"] for made in found}) == len(found)
    streamed: dict[int, str] = {}
    for entry in outcome.chunks:
        for part in entry["choices"][0]["delta"].get("tool_calls", ()):
            arguments = (part.get("function") or {}).get("arguments", "")
            streamed[part["index"]] = streamed.get(part["index"], "") + arguments
    assert [streamed[index] for index in sorted(streamed)] == [made["function"]["arguments"] for made in found]


@pytest.mark.parametrize(
    ("reply", "reason", "blame"),
    [
        (sse(done=False), "upstream_interrupted", True),
        (sse(), "upstream_interrupted", True),
        (sse(chunk({"content": "one"}), done=False), "upstream_interrupted", True),
        (sse(chunk({"content": "one"}), "{broken", END), "upstream_malformed", True),
        (sse(chunk({"content": "one"}), "[" * 100_000), "upstream_malformed", True),
        (Reply(b"<html>no</html>", kind="text/html"), "upstream_interrupted", True),
        (whole({"detail": "no such thing"}), "upstream_error", True),
        (sse({"error": {"message": "slow down", "code": 429}}), "upstream_rate_limited", False),
        (sse({"error": "broken"}), "upstream_error", True),
        (sse(chunk({"content": "one"}, "error")), "upstream_error", True),
        (Reply(sse(chunk({"content": "one"})).body, cut=True), "upstream_interrupted", True),
        (Reply(b"\x1f\x8bnot gzip", headers={"Content-Encoding": "gzip"}), "upstream_malformed", True),
    ],
)
def test_what_is_no_answer_is_a_clear_error(
    server: ScriptedServer, openai: Direct, reply: Reply, reason: str, blame: bool
) -> None:
    if reply.cut:  # all of the answer is there, but for its end
        reply = Reply(reply.body.replace(b"data: [DONE]\n\n", b""), cut=True)
    outcome = asked(server, openai, reply)
    assert outcome.failure is not None
    assert (outcome.failure.reason, outcome.failure.blame) == (reason, blame)
    assert outcome.failure.reason in FAILURES
    assert asked(server, openai, sse(chunk({"content": "fine"}), END)).text == "fine"


def test_an_answer_without_end_is_cut_off(server: ScriptedServer, openai: Direct) -> None:
    outcome = asked(server, openai, Reply(b"data: " + b"x" * (65 << 20)))
    assert outcome.failure is not None
    assert (outcome.failure.reason, "more than 64 MiB" in outcome.failure.message) == ("upstream_malformed", True)


@pytest.mark.parametrize("pause_s", [0, 0.1], ids=["at once", "drop by drop"])
@pytest.mark.parametrize(
    ("status", "coding", "reason"),
    [
        (400, "identity", "upstream_refused"),
        (503, "identity", "upstream_error"),
        (302, "identity", "upstream_error"),
        (200, "gzip", "upstream_malformed"),
        (503, "gzip", "upstream_malformed"),
    ],
)
@pytest.mark.parametrize("protocol", ["openai", "anthropic"])
def test_an_error_without_end_is_left(protocol: str, status: int, coding: str, reason: str, pause_s: float) -> None:
    with endless(status, pause_s, coding) as (url, left):
        direct = Direct(Provider("odd", protocol, url, first_byte_timeout_s=2, between_timeout_s=2))
        try:
            outcome = direct.ask("x")
            assert outcome.failure is not None
            assert outcome.failure.reason == ("upstream_timeout" if pause_s and coding == "identity" else reason)
            assert left.wait(LONG_S / 2), "the whole error was read"
        finally:
            direct.close()


VECTOR = base64.b64encode(struct.pack("<2f", 1.0, 0.5)).decode()


def embedded(*vectors: Any, indexes: Any = None, **more: Any) -> Reply:
    """An answer with vectors."""
    numbers = range(len(vectors)) if indexes is None else indexes
    data = [{"object": "embedding", "embedding": v, "index": i} for v, i in zip(vectors, numbers, strict=True)]
    return whole({"object": "list", "data": data, "usage": {"prompt_tokens": 1, "total_tokens": 1}, **more})


@pytest.mark.parametrize(
    ("reply", "first"),
    [
        (embedded([1, 0.5], [2, 0.5]), 1.0),
        (embedded(VECTOR, [2, 0.5]), 1.0),
        (embedded([1, 0.5], [2, 0.5], indexes=[1, 0]), 2.0),
        (embedded([1, 0.5], [2, 0.5], indexes=[None, None], usage=None), 1.0),
        (embedded([1, 0.5], [2, 0.5], usage={"prompt_tokens": "many"}), 1.0),
    ],
)
def test_vectors_are_taken_by_their_index(server: ScriptedServer, openai: Direct, reply: Reply, first: float) -> None:
    outcome = asked(server, openai, reply, request={"input": ["a", "b"]}, kind="embedding")
    assert outcome.failure is None
    assert [entry["embedding"].tolist() for entry in outcome.answer["data"]] == [[first, 0.5], [3 - first, 0.5]]


@pytest.mark.parametrize(
    "reply",
    [
        embedded([1, 0.5], [2, 0.5], indexes=[0, 0]),
        embedded([1, 0.5], [2, 0.5], indexes=[1, 2]),
        embedded([1, 0.5], [2, 0.5], indexes=[-1, 0]),
        embedded([1, 0.5], [2, 0.5], indexes=[0, None]),
        embedded([1, 0.5]),
        embedded([1, 0.5], [2, 0.5], [3, 0.5]),
        embedded([1, 0.5], [2]),
        embedded([], []),
        embedded([1, 0.5], [2, float("nan")]),
        embedded([1, 0.5], [2, 1e300]),
        embedded([1, 0.5], [2, None]),
        embedded([1, 0.5], [2, "x"]),
        embedded([1, 0.5], [[2], [0.5]]),
        embedded([1, 0.5], None),
        embedded(VECTOR, "no base64!"),
        embedded(VECTOR, VECTOR[:-4]),
        embedded(VECTOR, base64.b64encode(struct.pack("<2f", 1.0, float("inf"))).decode()),
        whole({"object": "list", "data": None}),
        whole([1]),
        whole("x"),
        Reply(b"no json"),
    ],
)
def test_odd_vectors_are_refused_and_the_provider_is_not_blamed(
    server: ScriptedServer, openai: Direct, reply: Reply
) -> None:
    outcome = asked(server, openai, reply, request={"input": ["a", "b"]}, kind="embedding")
    assert outcome.failure is not None
    assert outcome.failure.reason == "upstream_malformed"
    assert outcome.failure.blame is (reply.kind == "text/event-stream" or reply.body == b'"x"')


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        ([{"error": {"code": 400, "message": "missing a thought_signature"}}], "missing a thought_signature"),
        ({"error": "max context is 4096"}, "max context is 4096"),
        ({"detail": "max context is 4096"}, "max context is 4096"),
        ({"detail": [{"loc": ["body"], "msg": "field required"}, {"msg": "too long"}]}, "field required; too long"),
        ({"error": {"error": {"message": "inner"}}}, "inner"),
        ({"errors": [{"message": "one"}, "two"]}, "one; two"),
        ({"message": {"detail": "deep"}}, "deep"),
        ({"code": 7}, '{"code": 7}'),
        ("just text", "just text"),
        ({"error": {"message": "half \ud83d\n\x00of"}}, "half \ufffd of"),
        ({"error": {"message": "key sk-abcdefghijklmnopqrstuvwx is bad"}}, "key [key] is bad"),
        ([], ""),
        (None, ""),
    ],
)
@pytest.mark.parametrize("protocol", ["openai", "anthropic"])
def test_an_errors_text_is_told_in_any_shape(
    request: pytest.FixtureRequest, server: ScriptedServer, protocol: str, body: Any, shown: str
) -> None:
    outcome = asked(server, request.getfixturevalue(protocol), whole(body, 400))
    assert outcome.failure is not None
    assert (outcome.failure.reason, outcome.failure.blame) == ("upstream_refused", False)
    says = f" It says: {shown}" if shown else ""
    assert outcome.failure.message == f"Provider odd refused the request (HTTP 400).{says}"


def test_a_page_in_place_of_an_error_is_told_as_text(server: ScriptedServer, openai: Direct) -> None:
    page = b"<html><style>p { color: red }</style><h1>502</h1>\n<p>Bad gateway " + b"x" * 5000
    outcome = asked(server, openai, Reply(page, 502, "text/html"))
    assert outcome.failure is not None
    assert "It says: 502 Bad gateway xxx" in outcome.failure.message
    assert len(outcome.failure.message) < 400


BEGIN: dict[str, Any] = {
    "type": "message_start",
    "message": {"usage": {"input_tokens": 3, "cache_read_input_tokens": 2}},
}
LAST: dict[str, Any] = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 4}}
STOP = {"type": "message_stop"}


def block(index: Any, content: Any, *deltas: Any) -> list[dict[str, Any]]:
    """The events of a block."""
    return [
        {"type": "content_block_start", "index": index, "content_block": content},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def said(text: str) -> dict[str, Any]:
    """A piece of text."""
    return {"type": "text_delta", "text": text}


TEXT = {"type": "text", "text": ""}
SEARCH = {"type": "server_tool_use", "input": 5}


@pytest.mark.parametrize(
    ("events", "text"),
    [
        ([BEGIN, *block(0, TEXT, said("hi \ud83d"), said("\ude0a")), LAST, STOP], "hi 😊"),
        ([BEGIN, *block(0, TEXT, said("hi")), STOP], "hi"),
        ([*block(0, {"type": "text", "text": "hi"}), LAST], "hi"),
        ([BEGIN, *block(None, TEXT, said("hi"), {"type": "text_delta", "text": None}, None, 5), LAST, STOP], "hi"),
        ([BEGIN, {"type": "content_block_delta", "delta": said("hi")}, {"type": "new"}, LAST, STOP], "hi"),
        (
            [
                BEGIN,
                *block(0, {"type": "server_tool_use", "input": 5}, {"type": "input_json_delta"}),
                *block(1, TEXT, said("hi")),
                LAST,
            ],
            "hi",
        ),
        ([{"type": "message_start", "message": None}, *block(0, TEXT, said("hi")), {**LAST, "usage": "x"}], "hi"),
    ],
)
def test_lenient_shapes_of_a_message_are_answers(
    server: ScriptedServer, anthropic: Direct, events: list[Any], text: str
) -> None:
    outcome = asked(server, anthropic, messages(*events))
    assert outcome.failure is None
    assert (outcome.text, outcome.answer["choices"][0]["finish_reason"]) == (text, "stop")


def test_a_message_may_come_whole(server: ScriptedServer, anthropic: Direct) -> None:
    content = [{"type": "text", "text": "hi"}, {"type": "tool_use", "id": "t1", "name": "a", "input": {"x": 1}}]
    usage = {"input_tokens": 3, "output_tokens": 4}
    body = {"type": "message", "content": content, "stop_reason": "tool_use", "usage": usage}
    outcome = asked(server, anthropic, whole(body))
    assert outcome.failure is None
    assert outcome.text == "hi"
    assert outcome.message["tool_calls"][0]["function"] == {"name": "a", "arguments": '{"x": 1}'}
    assert outcome.answer["usage"] == {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}


@pytest.mark.parametrize(
    ("start", "deltas", "arguments"),
    [
        ({"input": {}}, [], "{}"),
        ({"input": {}}, ["", '{"a"', ": 1}"], '{"a": 1}'),
        ({"input": {"a": 1}}, [], '{"a": 1}'),
        ({"input": None}, [{"a": 1}], '{"a": 1}'),
        ({}, ['{"a": "\ud83d', '\ude0a"}'], '{"a": "😊"}'),
    ],
)
def test_arguments_of_a_message_come_whole(
    server: ScriptedServer, anthropic: Direct, start: dict[str, Any], deltas: list[Any], arguments: str
) -> None:
    parts = [{"type": "input_json_delta", "partial_json": delta} for delta in deltas]
    use = {"type": "tool_use", "id": "t1", "name": "a", **start}
    end = {**LAST, "delta": {"stop_reason": "tool_use"}}
    outcome = asked(server, anthropic, messages(BEGIN, *block(0, use, *parts), end, STOP))
    assert outcome.failure is None
    assert outcome.message["tool_calls"] == [
        {"id": "t1", "type": "function", "function": {"name": "a", "arguments": arguments}}
    ]


def test_thoughts_reach_the_client_with_their_signature(server: ScriptedServer, anthropic: Direct) -> None:
    thinking = {"type": "thinking", "thinking": "", "signature": ""}
    deltas = [{"type": "thinking_delta", "thinking": part} for part in ("Let me", " see\ud83d", "\ude0a")]
    hidden = {"type": "redacted_thinking", "data": "Zm9v"}
    used = {"output_tokens": 4, "output_tokens_details": {"thinking_tokens": 3}}
    events = [
        BEGIN,
        *block(0, thinking, *deltas, {"type": "signature_delta", "signature": "S1=="}),
        *block(1, hidden),
        *block(2, TEXT, said("Yes.")),
        {**LAST, "usage": used},
        STOP,
    ]
    outcome = asked(server, anthropic, messages(*events))
    signed = {"type": "thinking", "thinking": "Let me see😊", "signature": "S1=="}
    assert outcome.message == {
        "role": "assistant",
        "content": "Yes.",
        "reasoning_content": "Let me see😊",
        "thinking_blocks": [signed, hidden],
        "provider": "odd",
    }
    assert outcome.answer["usage"]["prompt_tokens_details"] == {"cached_tokens": 2}
    assert outcome.answer["usage"]["completion_tokens_details"] == {"reasoning_tokens": 3}
    assert outcome.answer["usage"]["prompt_tokens"] == 5


def test_what_is_beside_a_chat_reaches_the_client(server: ScriptedServer, openai: Direct) -> None:
    signature = {"google": {"thought_signature": "AbC="}}
    details = {"type": "reasoning.text", "index": 0, "format": "f"}
    outcome = asked(
        server,
        openai,
        sse(
            chunk({"role": "assistant", "content": None, "reasoning_content": "Let"}),
            chunk({"reasoning_content": " me", "reasoning_details": [{**details, "text": "Let"}]}),
            chunk({"reasoning_details": [{**details, "text": " me"}], "audio": {"id": "a1", "data": "AA"}}),
            call(index=0, id="c1", type="function", function={"name": "a", "arguments": "{}"}, extra_content=signature),
            TOOL_END,
            chunk(
                usage={
                    "prompt_tokens": 9,
                    "completion_tokens": 5,
                    "prompt_tokens_details": {"cached_tokens": 4},
                    "completion_tokens_details": {"reasoning_tokens": 3},
                }
            ),
        ),
    )
    made = {"id": "c1", "type": "function", "function": {"name": "a", "arguments": "{}"}, "extra_content": signature}
    assert outcome.message == {
        "role": "assistant",
        "content": None,
        "reasoning_content": "Let me",
        "reasoning_details": [{**details, "text": "Let me"}],
        "audio": {"id": "a1", "data": "AA"},
        "tool_calls": [made],
        "provider": "odd",
    }
    assert outcome.answer["usage"]["prompt_tokens_details"] == {"cached_tokens": 4}
    assert outcome.answer["usage"]["completion_tokens_details"] == {"reasoning_tokens": 3}
    deltas = [choice["delta"] for entry in outcome.chunks for choice in entry["choices"]]
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == "Let me"
    assert [part for delta in deltas for part in delta.get("tool_calls", ())] == [{"index": 0, **made}]
    assert [delta["provider"] for delta in deltas if "provider" in delta] == ["odd"]


def test_a_custom_call_reaches_the_client(server: ScriptedServer, openai: Direct) -> None:
    outcome = asked(
        server,
        openai,
        sse(
            call(index=0, id="c1", type="custom", custom={"name": "code", "input": ""}),
            call(index=0, custom={"input": "print('\ud83d"}),
            call(index=0, custom={"input": "\ude0a')"}),
            TOOL_END,
        ),
    )
    made = {"id": "c1", "type": "custom", "custom": {"name": "code", "input": "print('😊')"}}
    assert outcome.message == {"role": "assistant", "content": None, "tool_calls": [made]}
    assert outcome.answer["choices"][0]["finish_reason"] == "tool_calls"


def test_thoughts_have_the_same_name_whatever_a_server_calls_them(server: ScriptedServer, openai: Direct) -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 5, "prompt_cache_hit_tokens": 4}
    outcome = asked(
        server, openai, sse(chunk({"reasoning": "Let"}), chunk({"reasoning": " me"}), END, chunk(usage=usage))
    )
    assert outcome.message["reasoning_content"] == outcome.message["reasoning"] == "Let me"
    assert outcome.answer["usage"]["prompt_tokens_details"] == {"cached_tokens": 4}
    turns = [{"role": "user", "content": "hi"}, dict(outcome.message), {"role": "user", "content": "hi"}]
    asked(server, openai, sse(END), request={"messages": turns})
    assert server.received[-1].body["messages"][1] == {"role": "assistant", "content": "", "reasoning": "Let me"}


def test_a_refusal_is_one(server: ScriptedServer, openai: Direct) -> None:
    outcome = asked(server, openai, sse(chunk({"refusal": "I "}), chunk({"refusal": "can't."}), END))
    assert outcome.message == {"role": "assistant", "content": None, "refusal": "I can't.", "provider": "odd"}


@pytest.mark.parametrize(
    ("turn", "named", "sent"),
    [
        ({"reasoning_content": "hm"}, True, {"reasoning_content": "hm"}),
        ({"reasoning_content": "hm", "provider": "odd"}, False, {"reasoning_content": "hm"}),
        ({"reasoning_content": "hm", "provider": "else"}, True, {}),
        ({"reasoning_content": "hm"}, False, {}),
        ({"annotations": [{"type": "url_citation"}]}, True, {}),
        ({"audio": {"id": "a1", "data": "AA"}}, True, {"audio": {"id": "a1"}}),
        ({"content": "", "refusal": "no"}, True, {"content": None, "refusal": "no"}),
    ],
)
def test_what_a_provider_has_put_beside_goes_back_to_it_and_to_nobody_else(
    server: ScriptedServer, openai: Direct, turn: dict[str, Any], named: bool, sent: dict[str, Any]
) -> None:
    user = {"role": "user", "content": "hi"}
    turns = [user, {"role": "assistant", "content": "yes", **turn}, user]
    asked(server, openai, sse(END), request={"messages": turns}, asked="m" if named else "other")
    assert server.received[-1].body["messages"] == [user, {"role": "assistant", "content": "yes", **sent}, user]


@pytest.mark.parametrize("provider", ["odd", "else"])
def test_a_calls_signature_goes_back_to_the_provider_that_gave_it(
    server: ScriptedServer, openai: Direct, provider: str
) -> None:
    plain = {"id": "c1", "type": "function", "function": {"name": "a", "arguments": "{}"}}
    signed = {**plain, "extra_content": {"google": {"thought_signature": "AbC="}}}
    turns = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "", "tool_calls": [signed], "provider": provider},
        {"role": "tool", "tool_call_id": "c1", "content": ""},
    ]
    asked(server, openai, sse(END), request={"messages": turns, "tools": TOOLS})
    sent = server.received[-1].body["messages"][1]
    calls = [signed if provider == "odd" else plain]
    assert sent == {"role": "assistant", "content": None, "tool_calls": calls}


def test_what_the_client_gave_is_sent(server: ScriptedServer, openai: Direct, anthropic: Direct) -> None:
    given: dict[str, Any] = {
        "temperature": 1.0,
        "top_p": 0.0,
        "seed": 0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "repetition_penalty": 1.0,
        "top_k": 0,
        "parallel_tool_calls": False,
        "tools": TOOLS,
        "tool_choice": "none",
        "user": "u",
        "stop": ["x"],
    }
    turns = [{"role": "user", "content": "hi"}]
    asked(server, openai, sse(END), request={"messages": turns, **given})
    assert given.items() <= server.received[-1].body.items()
    for name in ("seed", "presence_penalty", "frequency_penalty", "repetition_penalty"):
        del given[name]
    asked(server, anthropic, messages(LAST, STOP), request={"messages": turns, **given, "temperature": 0.0})
    body = server.received[-1].body
    assert (body["temperature"], body["top_p"], body["top_k"], body["tool_choice"]) == (0.0, 0.0, 0, {"type": "none"})
    asked(server, openai, sse(END), request={"messages": turns, "temperature": None, "top_p": None, "seed": None})
    assert server.received[-1].body.keys() == {"model", "messages", "stream", "stream_options"}


def test_each_token_has_its_bytes_and_its_place(server: ScriptedServer, openai: Direct) -> None:
    smile = "😊".encode()
    tokens = [("hé", "hé".encode()), ("\ufffd", smile[:2]), (r"\x98\x8a", smile[2:]), (" x", b" x")]
    entries = [{"token": text, "logprob": -0.5, "bytes": list(raw)} for text, raw in tokens]
    events = [
        {"choices": [{"index": 0, "delta": {"content": text}, "logprobs": {"content": part}}]}
        for text, part in (("hé", entries[:1]), ("😊 x", entries[1:]))
    ]
    request = {"messages": [{"role": "user", "content": "hi"}], "logprobs": True}
    outcome = asked(server, openai, sse(*events, END), request=request)
    streamed = [
        entry
        for found in outcome.chunks
        for choice in found["choices"]
        for entry in (choice.get("logprobs") or {}).get("content", ())
    ]
    whole = outcome.answer["choices"][0]["logprobs"]["content"]
    for shown in (streamed, whole):
        assert [(entry["token"], bytes(entry["bytes"])) for entry in shown] == tokens


def test_tokens_of_a_completion_have_their_place_in_the_whole_text(server: ScriptedServer, openai: Direct) -> None:
    parts = [("ab", ["a", "b"]), ("😊", [r"bytes:\xf0\x9f", r"bytes:\x98\x8a"]), ("cd", ["c", "d"])]
    events = [
        {"choices": [{"index": 0, "text": text, "logprobs": {"tokens": tokens, "token_logprobs": [-1, None]}}]}
        for text, tokens in parts
    ]
    request = {"prompt": "So: ", "logprobs": True}
    outcome = asked(server, openai, sse(*events, END), kind="completion", request=request)
    assert outcome.answer["choices"][0]["text"] == "ab😊cd"
    streamed = [
        place
        for found in outcome.chunks
        for choice in found["choices"]
        for place in (choice.get("logprobs") or {}).get("text_offset", ())
    ]
    assert streamed == outcome.answer["choices"][0]["logprobs"]["text_offset"] == [0, 1, 2, 2, 3, 4]
