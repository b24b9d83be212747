"""Providers that send anything: real shapes, mutated. The one request ends with an answer or a clear error of the
provider, and a good request right behind it, through the same client, is answered.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import FAILURES
from gateway.jobs.answer.tool_calls import Calls, as_object, merge, whole
from gateway.models.entry import Provider
from gateway.store.codec import dumps, writable
from schemas.base.retry_after import retry_after_s
from tests.fuzz.budget import budget
from tests.upstreams.direct import Direct, Outcome
from tests.upstreams.scripted import Reply, ScriptedServer, chunk, messages, sse
from workers.providers.failures import WireError, text_of
from workers.providers.protocols import wire

GOOD = {
    "openai": sse(chunk({"content": "fine"}), chunk({}, "stop")),
    "anthropic": messages(
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "fine"}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}},
    ),
}
LOGPROBS = {"content": [{"token": "Hi", "logprob": -0.5, "bytes": [72, 105], "top_logprobs": []}]}
USAGE = {
    "prompt_tokens": 9,
    "completion_tokens": 5,
    "total_tokens": 14,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 3},
}
CALL = {"index": 0, "id": "c1", "type": "function", "function": {"name": "a", "arguments": '{"x":'}}
SIGNATURE = {"google": {"thought_signature": "AbC="}}
CHAT = [
    chunk({"role": "assistant", "content": "", "refusal": None}),
    chunk({"reasoning_content": "Let me", "reasoning_details": [{"type": "reasoning.text", "index": 0, "text": "L"}]}),
    {**chunk(), "choices": [{"index": 0, "delta": {"content": "Hi 😊"}, "logprobs": LOGPROBS, "finish_reason": None}]},
    chunk({"tool_calls": [CALL]}),
    chunk({"tool_calls": [{"index": 0, "function": {"arguments": "1}"}, "extra_content": SIGNATURE}]}),
    chunk({}, "tool_calls"),
    chunk(usage=USAGE),
]
TWO_CHATS = [
    *({**one, "choices": [{**choice, "index": 1} for choice in one["choices"]]} for one in CHAT[:-1]),
    *CHAT,
]
COMPLETION = [
    {"choices": [{"index": 0, "text": "Hi", "logprobs": {"tokens": ["Hi"], "token_logprobs": [-0.5]}}]},
    {"choices": [{"index": 1, "text": "Ho", "finish_reason": "stop"}, {"index": 0, "finish_reason": "length"}]},
    {"choices": [], "usage": USAGE},
]
EMBEDDING = {
    "object": "list",
    "data": [{"object": "embedding", "index": i, "embedding": [1.0, 0.5]} for i in range(2)],
    "usage": {"prompt_tokens": 2, "total_tokens": 2},
}
MESSAGE: list[dict[str, Any]] = [
    {"type": "message_start", "message": {"id": "m", "usage": {"input_tokens": 3, "cache_read_input_tokens": 2}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": "", "signature": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "Let me"}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "S="}},
    {"type": "content_block_stop", "index": 0},
    {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
    {"type": "ping"},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "Hi 😊"}},
    {"type": "content_block_stop", "index": 1},
    {
        "type": "content_block_start",
        "index": 2,
        "content_block": {"type": "tool_use", "id": "t", "name": "a", "input": {}},
    },
    {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": '{"x":1}'}},
    {"type": "content_block_stop", "index": 2},
    {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 4}},
    {"type": "message_stop"},
]
ERROR = {"error": {"message": "It went wrong", "type": "server_error", "param": None, "code": 400}}
#: By kind: protocol, events of a good answer, and the request.
TURNS = {"messages": [{"role": "user", "content": "hi"}]}
SHAPES: dict[str, tuple[str, list[Any], dict[str, Any], str]] = {
    "chat": ("openai", CHAT, {**TURNS, "logprobs": True}, "chat"),
    "two chats": ("openai", TWO_CHATS, {**TURNS, "n": 2}, "chat"),
    "completion": ("openai", COMPLETION, {"prompt": "hi", "n": 2, "logprobs": True}, "completion"),
    "message": ("anthropic", MESSAGE, TURNS, "chat"),
    "completed message": ("anthropic", MESSAGE, {"prompt": "hi"}, "completion"),
}

HALVES = st.text(st.characters(codec=None), max_size=4) | st.sampled_from(["\ud83d", "\ude0a", "\udcff", "\x00"])
ODD = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([-1, 2**63, 2**64, -(2**70), 10**400, 1e400, -0.0, float("nan"), "stop", "error", "[DONE]"])
    | st.floats()
    | HALVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(HALVES | st.sampled_from(sorted("abc")), inner, max_size=3)
    ),
    max_leaves=6,
)


def paths(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The ways to all values in a JSON value."""
    yield at
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, found in inner:
        yield from paths(found, (*at, name))


def changed(value: Any, path: tuple[Any, ...], change: Callable[[Any], Any]) -> Any:
    """A JSON value with one of those in it changed."""
    if not path:
        return change(value)
    if isinstance(value, dict):
        return {**value, path[0]: changed(value[path[0]], path[1:], change)}
    return [*value[: path[0]], changed(value[path[0]], path[1:], change), *value[path[0] + 1 :]]


@st.composite
def mutated(draw: st.DrawFn, value: Any) -> Any:
    """A JSON value with one change somewhere in it: gone, of another type, nested wrongly, or beside something odd."""
    all_paths = list(paths(value))
    deepest = [path for path in all_paths if not any(other and path == other[:-1] for other in all_paths)]
    path = draw(st.sampled_from(deepest) | st.sampled_from(all_paths))
    return changed(value, path, lambda found: draw(others(found)))


@st.composite
def others(draw: st.DrawFn, value: Any) -> Any:
    """What may stand in the place of a JSON value."""
    if isinstance(value, dict):
        kept = {name: inner for name, inner in value.items() if draw(st.integers(0, 3))}
        return draw(st.sampled_from([kept, [value], None, {**value, draw(HALVES): draw(ODD)}]) | ODD)
    if isinstance(value, str):
        cut = draw(st.integers(0, len(value)))
        longer = value[:cut] + draw(HALVES) + value[cut:]
        return draw(st.sampled_from([value[:cut], longer, longer, [value], {"text": value}]) | ODD)
    return draw(st.sampled_from([[value], {"value": value}, str(value), [value, value]]) | ODD)


@st.composite
def streams(draw: st.DrawFn, events: list[Any]) -> list[Any]:
    """Events of a good answer, after a few mishaps: lost, doubled, swapped, changed, or with something between them."""
    found = list(events)
    for _ in range(draw(st.integers(1, 4))):
        what = draw(st.sampled_from(["change"] * 4 + ["lose", "double", "swap", "insert"]))
        if what == "insert" or not found:
            found.insert(draw(st.integers(0, len(found))), draw(ODD | st.just(ERROR)))
            continue
        place, other = draw(st.integers(0, len(found) - 1)), draw(st.integers(0, len(found) - 1))
        if what == "change":
            found[place] = draw(mutated(found[place]))
        elif what == "lose":
            del found[place]
        elif what == "double":
            found.insert(other, found[place])
        else:
            found[place], found[other] = found[other], found[place]
    return found


@st.composite
def replies(draw: st.DrawFn, protocol: str, events: list[Any]) -> Reply:
    """The bytes of a stream, which may end anywhere, or have other bytes in it."""
    parts = []
    for event in draw(streams(events)):
        name = event.get("type") if protocol == "anthropic" and isinstance(event, dict) else None
        data = json.dumps(event, ensure_ascii=draw(st.booleans()))
        parts.append((f"event: {name}\n" if isinstance(name, str) else "") + f"data: {data}\n\n")
    body = "".join([*parts, *(["data: [DONE]\n\n"] if draw(st.booleans()) else [])]).encode(errors="surrogatepass")
    return draw(damaged(body, "text/event-stream"))


@st.composite
def damaged(draw: st.DrawFn, body: bytes, kind: str) -> Reply:
    """Bytes that may end anywhere, or have other bytes in them, as an answer."""
    how = draw(st.sampled_from(["whole"] * 8 + ["cut", "end", "bytes", "gone"]))
    place = draw(st.integers(0, len(body)))
    if how == "bytes":
        body = body[:place] + draw(st.binary(min_size=1, max_size=4)) + body[place + draw(st.integers(0, 3)) :]
    elif how in ("cut", "end"):
        body = body[:place]
    elif how == "gone":
        body = body[:place] + body[place + draw(st.integers(1, 200)) :]
    status = draw(st.sampled_from([200] * 20 + [400, 429, 500]))
    return Reply(body, status, kind, cut=how == "cut")


@pytest.fixture(scope="module")
def server() -> Iterator[ScriptedServer]:
    server = ScriptedServer()
    yield server
    server.close()


@pytest.fixture(scope="module")
def directs(server: ScriptedServer) -> Iterator[dict[str, Direct]]:
    urls = {"openai": f"{server.url}/v1", "anthropic": server.url}
    limits = {"first_byte_timeout_s": 5.0, "between_timeout_s": 5.0}
    found = {name: Direct(Provider("odd", name, url, **limits)) for name, url in urls.items()}
    yield found
    for direct in found.values():
        direct.close()


def require_clear(outcome: Outcome) -> None:
    """An answer, or an error that says what the provider has done."""
    if outcome.failure is None:
        return
    reason, text = outcome.failure.reason, outcome.failure.message
    assert reason.startswith("upstream_") or reason == "context_length_exceeded", reason
    assert reason in FAILURES
    assert text.startswith("Provider odd "), text
    assert len(text) < 500
    dumps(text)


@pytest.mark.parametrize("name", SHAPES)
@budget()
@given(data=st.data())
def test_any_stream_is_an_answer_or_a_clear_error(
    server: ScriptedServer, directs: dict[str, Direct], name: str, data: st.DataObject
) -> None:
    protocol, events, request, kind = SHAPES[name]
    server.received.clear()
    server.replies |= {"x": data.draw(replies(protocol, events)), "good": GOOD[protocol]}
    require_clear(directs[protocol].ask("x", request, kind=kind))
    good = directs[protocol].ask("good")
    assert (good.failure, good.text) == (None, "fine")


@budget()
@given(data=st.data())
def test_any_vectors_are_an_answer_or_a_clear_error(
    server: ScriptedServer, directs: dict[str, Direct], data: st.DataObject
) -> None:
    body = json.dumps(data.draw(st.just(EMBEDDING) | mutated(EMBEDDING))).encode()
    server.replies |= {"x": data.draw(damaged(body, "application/json")), "good": GOOD["openai"]}
    outcome = directs["openai"].ask("x", {"input": ["a", "b"]}, kind="embedding")
    require_clear(outcome)
    if outcome.failure is None:
        assert [len(entry["embedding"]) for entry in outcome.answer["data"]] in ([2, 2], [1, 1])
    good = directs["openai"].ask("good")
    assert (good.failure, good.text) == (None, "fine")


@budget(200)
@given(parts=st.lists(st.binary(max_size=12) | st.sampled_from([b"data: ", b"\r", b"\n\n", b"{}", "😊".encode()])))
def test_events_are_the_same_wherever_their_bytes_are_cut(parts: list[bytes]) -> None:
    async def read(chunks: list[bytes]) -> list[wire.Event]:
        async def flow() -> AsyncIterator[bytes]:
            for part in chunks:
                yield part

        return [event async for event in wire.events(flow())]

    body = b"".join(parts)
    whole_body = asyncio.run(read([body]))
    assert asyncio.run(read(parts)) == whole_body
    assert asyncio.run(read([bytes([byte]) for byte in body])) == whole_body


@budget(200)
@given(text=st.text(st.characters(codec=None)), cuts=st.lists(st.integers(0, 40), max_size=4))
def test_a_text_is_the_same_wherever_it_is_cut(text: str, cuts: list[int]) -> None:
    escaped = text.encode(errors="surrogatepass").decode(errors="surrogateescape")
    for form in (text, escaped):
        halves, places = wire.Halves(), sorted(min(cut, len(form)) for cut in cuts)
        parts = [form[start:end] for start, end in zip([0, *places], [*places, len(form)], strict=True)]
        joined = "".join(halves.join(part) for part in parts) + halves.join("", final=True)
        assert joined == wire.Halves().join(form, final=True)
        joined.encode()
    if not any("\ud800" <= char <= "\udfff" for char in text):
        assert wire.Halves().join(escaped, final=True) == text


@budget(200)
@given(value=ODD | mutated(CHAT))
def test_any_value_can_be_written_and_read_by_all(value: Any) -> None:
    dumps(writable(value))
    text_of(value).encode()
    for fragments in ([value], [CALL, value, CALL], [{**CALL, "function": value}], [{**CALL, "index": value}]):
        dumps(merge(fragments))
        dumps(whole(fragments))
        calls = Calls(new_id=lambda: "new")
        dumps(writable([calls.take(fragment) for fragment in fragments]))
    try:
        wire.read(json.dumps(value))
    except WireError:
        return


@budget(200)
@given(text=st.text() | st.from_regex(r"[+-]?[0-9]{0,20}(\.[0-9]*)?(e[0-9]{1,4})?", fullmatch=True))
def test_any_header_and_any_arguments_can_be_read(text: str) -> None:
    for headers in ({"retry-after": text}, {"retry-after-ms": text}):
        wait_s = retry_after_s(headers)
        assert wait_s is None or 0 <= wait_s <= 86_400
    dumps(as_object(text))
