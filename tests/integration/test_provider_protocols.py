"""Each protocol by itself, over a real connection: what depends on whose server it is, and on how an answer begins."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from gateway.models.entry import SERVERS, Model, Provider
from gateway.models.protocols import refusals
from tests.upstreams.anthropic import AnthropicServer
from tests.upstreams.base import Fault, answer
from tests.upstreams.direct import Direct
from tests.upstreams.openai import OpenAIServer
from workers.providers import connect
from workers.providers.base import UpstreamDelta, UpstreamRequest
from workers.providers.failures import translate
from workers.providers.protocols.content_blocks import PrefixJoiner

KEY = "sk-12345678"
TURNS: list[Any] = [{"role": "user", "content": "hi"}]


def tool(**parameters: Any) -> dict[str, Any]:
    """A tool with a schema of its arguments."""
    return {"type": "function", "function": {"name": "a", "parameters": {"type": "object", **parameters}}}


#: Tools whose arguments Anthropic's API does not take, with the field that is named.
UNTAKEN = [
    (tool(anyOf=[{"required": ["a"]}, {"required": ["b"]}]), "anyOf"),
    (tool(oneOf=[]), "oneOf"),
    (tool(allOf=[{}]), "allOf"),
    (tool(properties={"a": {}, "filter[id]": {}}), "properties"),
    (tool(properties={"$top": {}}), "properties"),
    (tool(properties={"": {}}), "properties"),
    (tool(properties={"a" * 65: {}}), "properties"),
    (tool(properties={"a\n": {}}), "properties"),
]


@pytest.fixture
def openai(monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenAIServer]:
    server = OpenAIServer(KEY)
    monkeypatch.setenv("K", KEY)
    monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
    monkeypatch.setitem(SERVERS, "openai", f"{server.url}/v1")
    yield server
    server.close()


def served_by(provider: Provider, **model: Any) -> Model:
    """A model of a provider."""
    return Model("m", "M", "", "1", ("chat",), provider="p", upstream="gpt-4", via=provider, **model)


def call(provider: Provider, request: dict[str, Any], *, kind: str = "chat", before: str = "", **model: Any) -> str:
    """The text that comes back. Raises: UpstreamFailure."""
    upstream = connect(provider)
    asked = served_by(provider, **model)

    async def collect() -> list[UpstreamDelta]:
        try:
            return [piece async for piece in upstream.stream(UpstreamRequest(kind, asked, request, [0], before))]
        finally:
            await upstream.close()

    try:
        return "".join(piece.text for piece in asyncio.run(collect()))
    except Exception as error:
        raise translate(error, provider, lambda text: text) from error


def test_openais_own_server_is_asked_in_its_newest_words(openai: OpenAIServer) -> None:
    own = Provider("openai", "openai", api_key_env="K")
    assert call(own, {"messages": TURNS, "max_tokens": 3}) == answer(3)
    received = openai.received[-1]
    assert received.body["max_completion_tokens"] == 3
    assert received.headers["openai-organization"] == "org-1"
    assert call(own, {"prompt": "hi", "max_tokens": 3}, kind="completion") == answer(3)
    assert openai.received[-1].path == "/v1/chat/completions"
    assert openai.received[-1].body["messages"] == TURNS
    assert call(own, {"prompt": "hi", "max_tokens": 3}, kind="completion", upstreams={"completion": "instruct"})
    assert (openai.received[-1].path, openai.received[-1].body["model"]) == ("/v1/completions", "instruct")


def test_other_servers_are_asked_in_older_words_and_told_no_account(openai: OpenAIServer) -> None:
    other = Provider("other", "openai", base_url=f"{openai.url}/v1", api_key_env="K")
    assert call(other, {"messages": TURNS, "max_tokens": 3, "temperature": 1.0}) == answer(3)
    received = openai.received[-1]
    assert received.body["max_tokens"] == 3
    assert "openai-organization" not in received.headers
    assert received.body["temperature"] == 1.0, "what was given is sent"
    assert call(other, {"prompt": "hi", "max_tokens": 3}, kind="completion") == answer(3)
    assert openai.received[-1].path == "/v1/completions"


@pytest.mark.parametrize(
    ("continuation", "extra", "turn"),
    [
        ("prefix", {}, {"prefix": True}),
        ("prefill", {}, {}),
        ("continue_final_message", {"continue_final_message": True, "add_generation_prompt": False}, {}),
    ],
)
def test_a_begun_answer_is_sent_as_the_catalog_says(
    openai: OpenAIServer, continuation: str, extra: dict[str, Any], turn: dict[str, Any]
) -> None:
    provider = Provider("p", "openai", f"{openai.url}/v1", "K", continuation=continuation)
    assert connect(provider).continues("chat")
    call(provider, {"messages": TURNS, "max_tokens": 100}, before=answer(3))
    body = openai.received[-1].body
    assert body["messages"] == [*TURNS, {"role": "assistant", "content": answer(3), **turn}]
    assert extra.items() <= body.items()
    assert 80 < body["max_tokens"] < 100, "what there is counts, as far as can be guessed"


@pytest.mark.parametrize(
    "request_",
    [
        {"messages": TURNS, "temperature": 1.7, "user": "u" * 500, "stop": ["x"]},
        {
            "messages": TURNS,
            "tools": [{"type": "function", "function": {"name": "a", "parameters": {"type": "array"}}}],
        },
        {
            "messages": TURNS,
            "tools": [
                tool(properties={"a.b-C_1": {"anyOf": [{}]}, "a" * 64: {"properties": {"filter[id]": {}}}}),
                tool(properties=None),
            ],
        },
        {
            "messages": [
                {"role": "system", "content": " "},
                {"role": "assistant", "content": "", "tool_calls": [{"id": "a.1", "function": {"name": "a b"}}]},
                {"role": "tool", "tool_call_id": "a.1", "content": ""},
                {"role": "user", "content": ""},
            ]
        },
    ],
)
def test_a_request_is_put_into_anthropics_limits(monkeypatch: pytest.MonkeyPatch, request_: dict[str, Any]) -> None:
    monkeypatch.setenv("K", KEY)
    server = AnthropicServer(KEY)
    provider = Provider("p", "anthropic", server.url, "K")
    assert not refusals(served_by(provider), request_)
    assert call(provider, request_) == ("" if "tools" in request_ else answer()), "who has tools calls one"
    server.close()


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        ({"messages": [{"role": "user", "content": " "}]}, "messages"),
        ({"messages": TURNS, "stop": ["x", "\n\n"]}, "stop.1"),
        ({"messages": TURNS, "seed": 0}, "seed"),
        ({"prompt": ["x", ""]}, "prompt"),
    ],
)
def test_what_anthropic_can_not_be_told_is_named(request_: dict[str, Any], field: str) -> None:
    assert list(refusals(served_by(Provider("p", "anthropic", "http://127.0.0.1:1")), request_)) == [field]


@pytest.mark.parametrize(("untaken", "field"), UNTAKEN)
def test_a_tool_that_anthropic_does_not_take_is_named_before_it_is_asked(
    monkeypatch: pytest.MonkeyPatch, untaken: dict[str, Any], field: str
) -> None:
    monkeypatch.setenv("K", KEY)
    server = AnthropicServer(KEY)
    provider = Provider("p", "anthropic", server.url, "K")
    asked = {"messages": TURNS, "tools": [tool(), untaken]}
    assert list(refusals(served_by(provider), asked)) == [f"tools.1.function.parameters.{field}"]
    with pytest.raises(Exception, match=r"tools\.1\.custom\.input_schema"):
        call(provider, asked)
    server.close()


def test_who_only_shows_that_it_lives_is_not_waited_for_for_ever() -> None:
    class Pinging(AnthropicServer):
        def events(self, path: str, body: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
            while True:
                yield "ping", '{"type": "ping"}'

    server = Pinging("none")
    server.pace_s = 0.02
    limits = {"first_byte_timeout_s": 0.05, "between_timeout_s": 5.0}
    direct = Direct(Provider("p", "anthropic", server.url, **limits))
    failure = direct.ask("x").failure
    assert failure is not None
    assert (failure.reason, failure.retryable) == ("upstream_timeout", True)
    assert server.left.acquire(timeout=60)
    direct.close()
    server.close()


def test_redirects_are_not_followed(openai: OpenAIServer) -> None:
    elsewhere = AnthropicServer(KEY)
    openai.faults.append(Fault("status", status=307, headers={"Location": elsewhere.url}))
    with pytest.raises(Exception, match="HTTP 307"):
        call(Provider("p", "openai", f"{openai.url}/v1", "K"), {"messages": TURNS})
    assert not elsewhere.received
    elsewhere.close()


@pytest.mark.parametrize(
    ("before", "begun", "pieces", "joined"),
    [
        ("Hello", "Hello", [" you"], " you"),
        ("Hello ", "Hello", [" you"], "you"),
        ("Hello \n", "Hello", [" ", "\nyou ", "\n"], "you \n"),
        ("Hello \n", "Hello", ["you"], "you"),
        (" ", "", ["you"], "you"),
        ("", "", [" you"], " you"),
    ],
)
def test_a_beginning_that_ends_with_white_space(before: str, begun: str, pieces: list[str], joined: str) -> None:
    seam = PrefixJoiner(before)
    assert seam.begun == begun
    assert "".join(seam.join(piece) for piece in pieces) == joined
