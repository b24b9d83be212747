"""Answers and chunks as OpenAI's schemas require them (`openapi.yaml`): every key is there, also where it is null.

Strict clients are generated from these schemas. A chunk has one choice, and one that says how the choice has ended has
nothing else: many loops leave there. Knows no HTTP.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gateway.jobs.events import Event
from gateway.jobs.record import Job
from gateway.store.codec import dumps
from gateway.views.chunk_stream import ChunkStream

#: How a job ends that was cancelled, which OpenAI has no word for.
CANCELLED = "cancelled"


def is_cancelled(data: Any) -> bool:
    """Whether it is the answer of a job that was cancelled."""
    if not isinstance(data, Mapping):
        return False
    choices = data.get("choices")
    if choices is None:  # vectors of nothing
        return "usage" in data and not data.get("data", True)
    return any(choice["finish_reason"] == CANCELLED for choice in choices)


def whole(data: Any, *, old_calls: bool) -> Any:
    """An answer of any path with all keys. `old_calls`: a call is a `function_call`, as before there were tools."""
    if not isinstance(data, Mapping) or "choices" not in data:
        return data
    return {**data, "choices": [_choice(choice, old_calls=old_calls) for choice in data["choices"]]}


def _choice(choice: Mapping[str, Any], *, old_calls: bool) -> dict[str, Any]:
    shown = {**choice, "logprobs": _logprobs(choice)}
    if "message" in choice:
        message = {"refusal": None, **choice["message"]}
        shown["message"] = _with_old_call(message) if old_calls else message
        shown["finish_reason"] = _finish(choice["finish_reason"], old_calls=old_calls)
    return shown


def _finish(reason: str | None, *, old_calls: bool) -> str | None:
    return "function_call" if old_calls and reason == "tool_calls" else reason


def _with_old_call(said: Mapping[str, Any]) -> dict[str, Any]:
    """A message, or what is new of one, with its first call as a `function_call`."""
    shown = {name: value for name, value in said.items() if name != "tool_calls"}
    calls = [call for call in said.get("tool_calls") or () if not call.get("index")]
    if calls and "function" in calls[0]:
        shown["function_call"] = {n: v for n, v in calls[0]["function"].items() if n in ("name", "arguments")}
    return shown


def _logprobs(choice: Mapping[str, Any]) -> dict[str, Any] | None:
    found = choice.get("logprobs")
    if not found:
        return None
    if "content" in found:
        return {"refusal": None, **found}
    if found.get("top_logprobs") is not None:
        return dict(found)
    chosen = zip(found["tokens"], found["token_logprobs"], strict=True)
    return {**found, "top_logprobs": [{} if value is None else {token: value} for token, value in chosen]}


class OpenAIForm:
    """Chunks as server-sent events. The head is encoded once, and text put behind it."""

    def __init__(self, job: Job, *, old_calls: bool) -> None:
        self._old_calls = old_calls
        is_chat = job.kind == "chat"
        self._content, close = ('"delta":{"content":', "}") if is_chat else ('"text":', "")
        counts = (job.request.get("stream_options") or {}).get("include_usage")
        self._others: dict[str, Any] = {"usage": None} if counts else {}
        usage = ',"usage":null' if counts else ""
        self._tail = f'{close},"logprobs":null,"finish_reason":null}}]{usage}}}\n\n'

    def begin(self, head: Mapping[str, Any]) -> None:
        """All fields before the choices."""
        self._head = dumps(head)[:-1]

    def text(self, event: Event, index: int, text: str) -> str:
        """A chunk with one choice."""
        return (
            f'id: {event.cursor}\ndata: {self._head},"choices":[{{"index":{index},{self._content}{dumps(text)}'
            f"{self._tail}"
        )

    def chunk(self, event: Event, chunk: dict[str, Any]) -> str:
        """Any chunk, as one or several. The last of them has the cursor: a client that resumes there misses none."""
        parts = [part for choice in chunk.get("choices", ()) for part in self._parts(choice)]
        chunks = [{**chunk, "choices": [part], **self._others} for part in parts] or [chunk]
        *first, last = (f"data: {dumps(one)}\n\n" for one in chunks)
        return f"{''.join(first)}id: {event.cursor}\n{last}"

    def _parts(self, choice: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """What is new of a choice, and then how it has ended."""
        finish = choice["finish_reason"]
        name, empty = ("delta", {}) if "delta" in choice else ("text", "")
        new: Any = choice[name]
        if name == "delta":
            finish = _finish(finish, old_calls=self._old_calls)
            if "role" in new:
                new = {**new, "refusal": None}
            elif self._old_calls and "tool_calls" in new:
                new = _with_old_call(new)
        entries = _logprobs(choice)
        if new or entries or not finish:
            yield {"index": choice["index"], name: new, "logprobs": entries, "finish_reason": None}
        if finish:
            yield {"index": choice["index"], name: empty, "logprobs": None, "finish_reason": finish}


def openai_chunks(job: Job, *, old_calls: bool) -> ChunkStream[str]:
    """The chunks of a job of any kind, each one event or more of the stream."""
    return ChunkStream(job, OpenAIForm(job, old_calls=old_calls))
