"""Holds every body and chunk that tests get below `/v1` against the types of the `openai` package, strictly.

Each required key is there, nothing has a wrong type, and words are of their lists. The types are more lenient than
OpenAI's schemas (`openapi.yaml`), which strict clients are generated from: the tables say which keys must be there
though the types have a default for them, and which are never null.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import httpx
import httpx2
import pydantic
import pytest
from openai.types import Completion, CompletionChoice, CreateEmbeddingResponse, Model
from openai.types import completion_choice as text
from openai.types.chat import ChatCompletion, ChatCompletionChunk, ChatCompletionMessage, ChatCompletionTokenLogprob
from openai.types.chat import chat_completion as chat
from openai.types.chat import chat_completion_chunk as chunk
from openai.types.chat.chat_completion_token_logprob import TopLogprob

#: Below this is OpenAI's.
PREFIX = "/v1/"
_TEXT_LOGPROBS = ("text_offset", "token_logprobs", "tokens", "top_logprobs")
#: Keys that must be there though the types have a default for them.
REQUIRED: Mapping[type, tuple[str, ...]] = {
    chat.Choice: ("logprobs",),
    chat.ChoiceLogprobs: ("content", "refusal"),
    chunk.ChoiceLogprobs: ("content", "refusal"),
    ChatCompletionMessage: ("content", "refusal"),
    ChatCompletionTokenLogprob: ("bytes",),
    TopLogprob: ("bytes",),
    CompletionChoice: ("logprobs",),
    text.Logprobs: _TEXT_LOGPROBS,
}
#: Keys that are never null, though the types allow it.
NOT_NULL: Mapping[type, tuple[str, ...]] = {
    ChatCompletion: ("usage", "system_fingerprint"),
    ChatCompletionMessage: ("tool_calls", "function_call", "annotations"),
    Completion: ("system_fingerprint",),
    chunk.ChoiceDelta: ("role", "tool_calls", "function_call"),
    text.Logprobs: _TEXT_LOGPROBS,
}
_WHOLE: Mapping[str, type[pydantic.BaseModel]] = {
    "/v1/chat/completions": ChatCompletion,
    "/v1/completions": Completion,
    "/v1/embeddings": CreateEmbeddingResponse,
}
_CHUNKS: Mapping[str, type[pydantic.BaseModel]] = {
    "/v1/chat/completions": ChatCompletionChunk,
    "/v1/completions": Completion,
}


class ErrorDetail(pydantic.BaseModel, extra="forbid"):
    """What is in an error."""

    message: str
    type: str
    param: str | None
    code: str | None


class Error(pydantic.BaseModel, extra="forbid"):
    """The body of an error."""

    error: ErrorDetail


class Models(pydantic.BaseModel, extra="forbid"):
    """The list of models."""

    object: str
    data: list[Model]


def flaws(
    path: str, status: int, asked: Mapping[str, Any], body: bytes, *, is_stream: bool, is_whole: bool
) -> list[str]:
    """What is wrong with a body, of which a client that has left has seen a part only."""
    if is_stream:
        return _stream_flaws(path, asked, body.decode(), is_whole=is_whole)
    path = path.rstrip("/")
    if not is_whole or status in (202, 204):
        return []
    if status >= 400:
        return of_type(Error, body)
    if path == "/v1/models":
        return of_type(Models, body)
    if path == "/v1/embeddings" and asked.get("encoding_format") == "base64":
        body = _as_numbers(body)
    kind = Model if path.startswith("/v1/models/") else _WHOLE.get(path)
    return of_type(kind, body) if kind else []


def _stream_flaws(path: str, asked: Mapping[str, Any], body: str, *, is_whole: bool) -> list[str]:
    kind = _CHUNKS[path]
    events = [part for part in body.replace("\r\n", "\n").split("\n\n")[: None if is_whole else -1] if part.strip()]
    data = [line.removeprefix("data: ") for event in events for line in event.splitlines() if line.startswith("data: ")]
    found = [] if not is_whole or data[-1:] == ["[DONE]"] else ["the stream does not end with [DONE]"]
    counts = bool((asked.get("stream_options") or {}).get("include_usage"))
    heads, ended = set(), set()
    for one in data:
        if one == "[DONE]":
            continue
        value = json.loads(one)
        if "error" in value:
            found += of_type(Error, one.encode())
            continue
        found += of_type(kind, _as_whole(value) if kind is Completion else one.encode())
        heads.add((value["id"], value["created"]))
        found += [f"{one}: {flaw}" for flaw in _chunk_flaws(value, counts=counts)]
        for choice in value["choices"]:
            if choice["index"] in ended:
                found.append(f"{one}: its choice has ended before")
            ended |= {choice["index"]} if choice["finish_reason"] else set()
    return found if len(heads) < 2 else [*found, f"its chunks have several ids: {heads}"]


def _as_numbers(body: bytes) -> bytes:
    """Vectors as the SDK's type has them: it decodes those that it asks for in base64."""
    value = json.loads(body)
    for entry in value["data"]:
        packed = base64.b64decode(entry["embedding"], validate=True)
        entry["embedding"] = list(struct.unpack(f"<{len(packed) // 4}f", packed))
    return json.dumps(value).encode()


def _as_whole(value: Mapping[str, Any]) -> bytes:
    """A chunk of a completion, whose type is that of the whole answer, where a choice has ended."""
    ended = [{**choice, "finish_reason": choice["finish_reason"] or "stop"} for choice in value["choices"]]
    return json.dumps({**value, "choices": ended}).encode()


def _chunk_flaws(value: Mapping[str, Any], *, counts: bool) -> list[str]:
    """What types can't say of a chunk."""
    found = []
    if len(value["choices"]) > 1:
        found.append("has several choices")
    if counts != ("usage" in value):
        found.append("has usage, or lacks it, other than asked")
    if value["choices"] and value.get("usage"):
        found.append("has choices and usage")
    for choice in value["choices"]:
        if choice["finish_reason"] and (choice.get("delta") or choice.get("text") or choice.get("logprobs")):
            found.append("has an end and something else")
        if "logprobs" not in choice:
            found.append("has no logprobs")
    return found


def of_type(kind: type[pydantic.BaseModel], body: bytes) -> list[str]:
    """What is wrong with the JSON of a type."""
    try:
        found = kind.model_validate_json(_without_gaps(body), strict=True)
    except pydantic.ValidationError as error:
        return [f"{body[:2000]!r} is no {kind.__name__}: {error}"]
    return [f"{body[:2000]!r}: {flaw}" for flaw in _omissions(found, kind.__name__)]


def _without_gaps(body: bytes) -> bytes:
    """The first token of a prompt has no probability: null, in lists that have numbers by the types."""
    if b"token_logprobs" not in body:
        return body
    value = json.loads(body)
    for choice in value.get("choices", ()):
        for name, gap in (("token_logprobs", 0.0), ("top_logprobs", {})):
            entries = (choice.get("logprobs") or {}).get(name)
            if isinstance(entries, list):
                choice["logprobs"][name] = [gap if entry is None else entry for entry in entries]
    return json.dumps(value).encode()


def _omissions(value: Any, at: str) -> Iterator[str]:
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _omissions(item, f"{at}[{index}]")
    if not isinstance(value, pydantic.BaseModel):
        return
    kind, given = type(value), value.model_fields_set
    yield from (f"{at}.{name} is missing" for name in REQUIRED.get(kind, ()) if name not in given)
    yield from (f"{at}.{name} is null" for name in NOT_NULL.get(kind, ()) if name in given and not _is(value, name))
    for name in given & type(value).model_fields.keys():
        yield from _omissions(getattr(value, name), f"{at}.{name}")


def _is(value: pydantic.BaseModel, name: str) -> bool:
    return getattr(value, name) is not None


class Seen:
    """The body of a response: its client reads it, and it is looked at when it is closed."""

    def __init__(self, request: Any, response: Any, found: list[str]) -> None:
        self._request, self._response, self._found = request, response, found
        self._inner: Any = response.stream
        self._body, self._is_whole = bytearray(), False

    def __iter__(self) -> Iterator[bytes]:
        for part in self._inner:
            self._body += part
            yield part
        self._is_whole = True

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._inner:
            self._body += part
            yield part
        self._is_whole = True

    def close(self) -> None:
        self._inner.close()
        self._look()

    async def aclose(self) -> None:
        await self._inner.aclose()
        self._look()

    def _look(self) -> None:
        if self._response.headers.get("content-encoding"):
            return
        kind = self._response.headers.get("content-type", "")
        try:
            asked = json.loads(self._request.content or b"{}")
        except (ValueError, RuntimeError):  # no JSON, or not read
            asked = {}
        said = f"{self._request.method} {self._request.url.path} ({self._response.status_code})"
        self._found += [
            f"{said}: {flaw}"
            for flaw in flaws(
                self._request.url.path,
                self._response.status_code,
                asked if isinstance(asked, dict) else {},
                bytes(self._body),
                is_stream=kind.startswith("text/event-stream"),
                is_whole=self._is_whole,
            )
        ]


def watch(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Look at all that this process' HTTP clients get below /v1 from Headrace, and collect what is wrong."""
    found: list[str] = []
    for library in (httpx, httpx2):  # the second is openai's
        _watch(library, monkeypatch, found)
    return found


def _watch(library: Any, monkeypatch: pytest.MonkeyPatch, found: list[str]) -> None:
    sync, other = library.HTTPTransport.handle_request, library.AsyncHTTPTransport.handle_async_request
    body = type("SeenBody", (Seen, library.SyncByteStream, library.AsyncByteStream), {})

    def seen(request: Any, response: Any) -> Any:
        if request.url.path.startswith(PREFIX) and "x-request-id" in response.headers:
            response.stream = body(request, response, found)
        return response

    def handle(self: Any, request: Any) -> Any:
        return seen(request, sync(self, request))

    async def handle_async(self: Any, request: Any) -> Any:
        return seen(request, await other(self, request))

    monkeypatch.setattr(library.HTTPTransport, "handle_request", handle)
    monkeypatch.setattr(library.AsyncHTTPTransport, "handle_async_request", handle_async)
