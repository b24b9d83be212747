"""Anthropic's Messages API, by Anthropic's own SDK. A completion is asked as a chat whose only turn is the prompt."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from typing import Any

import anthropic
import orjson

from gateway.model import Provider
from workers.providers.base import Ask, Piece
from workers.providers.secrets import key_of

#: Anthropic's own server.
BASE_URL = "https://api.anthropic.com"
#: The last version of the API that takes `SAMPLING`: 2026-10-21, which the SDK asks for, refuses them at any value.
SAMPLING_VERSION = "2023-06-01"
SAMPLING = ("temperature", "top_p", "top_k")
#: Their words for how an answer ended, in OpenAI's; a new one counts as `stop`.
FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
#: Numbers that the API has no word for, with the value at which they do nothing.
_UNKNOWN = {"seed": None, "presence_penalty": 0, "frequency_penalty": 0, "repetition_penalty": 1, "logprobs": False}


class AnthropicUpstream:
    """Asks one server that speaks Anthropic's protocol."""

    errors: tuple[type[Exception], ...] = (anthropic.AnthropicError,)

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        key = key_of(provider) or "none"
        self._client = anthropic.AsyncAnthropic(
            api_key=key,
            base_url=provider.base_url or BASE_URL,
            max_retries=0,
            # The SDK sends the key as a bearer; servers of others may know the older header only.
            default_headers={"X-Api-Key": key} if provider.base_url else None,
            http_client=anthropic.DefaultAsyncHttpxClient(
                follow_redirects=False, timeout=anthropic.Timeout(None, connect=provider.connect_timeout_s)
            ),
        )

    def refusals(self, kind: str, request: Mapping[str, Any]) -> dict[str, list[str]]:
        """What the API can't be told."""
        if kind == "embedding":
            return {"input": ["This provider makes no embeddings; take another model."]}
        found = {
            name: [f"Got {request[name]}; this provider's API has no {name}. Leave it out."]
            for name, neutral in _UNKNOWN.items()
            if request.get(name, neutral) not in (neutral, None)
        }
        for number, message in enumerate(request.get("messages") or ()):
            if message.get("name") and message["role"] != "tool":
                found[f"messages.{number}.name"] = ["This provider's API has no names of speakers. Leave it out."]
        return found

    def splits(self, ask: Ask) -> bool:
        """A call has one answer."""
        return len(ask.indexes) > 1

    def continues(self, kind: str) -> bool:
        """By a last turn that the model goes on with (`prefill`), which newer models refuse: the catalog says so."""
        return self._provider.continuation in ("", "prefill")

    async def stream(self, ask: Ask) -> AsyncGenerator[Piece]:
        """See `base.py`."""
        seam = Seam(ask.before)
        calls = ToolBlocks()
        async with await self._client.messages.create(**self._body(ask, seam.begun)) as events:
            async for event in events:
                for piece in _pieces(ask.indexes[0], event, seam, calls):
                    yield piece

    async def close(self) -> None:
        """See `base.py`."""
        await self._client.close()

    def _body(self, ask: Ask, begun: str) -> dict[str, Any]:
        request = ask.request
        turns = request["messages"] if ask.kind == "chat" else [{"role": "user", "content": ask.prompt}]
        system = "\n\n".join(turn["content"] for turn in turns if turn["role"] == "system")
        messages = list(_messages(turn for turn in turns if turn["role"] != "system"))
        if begun:
            messages.append({"role": "assistant", "content": begun})
        sent: dict[str, Any] = {
            "model": ask.upstream,
            "stream": True,
            "messages": messages,
            "max_tokens": ask.max_tokens or ask.model.default_max_tokens,
        }
        # 1 is where both stand, and newer models refuse to be told so.
        sampling = {name: request[name] for name in SAMPLING if request.get(name) not in (None, 1)}
        if sampling:
            sent |= {"extra_body": sampling, "extra_headers": {"anthropic-version": SAMPLING_VERSION}}
        optional = {
            "system": system,
            "stop_sequences": request.get("stop"),
            "tools": [_tool(tool) for tool in request.get("tools") or ()],
            "tool_choice": _choice(request),
            "metadata": {"user_id": request["user"]} if request.get("user") else None,
        }
        return sent | {name: value for name, value in optional.items() if value}


class Seam:
    """Where a continued answer joins its beginning.

    The API takes no beginning that ends with white space: that is left out, and dropped if the model repeats it.
    """

    def __init__(self, before: str) -> None:
        self.begun = before.rstrip()
        self._cut = before[len(self.begun) :]

    def join(self, text: str) -> str:
        """A text as it goes on behind the beginning."""
        while self._cut and text.startswith(self._cut[0]):
            self._cut, text = self._cut[1:], text[1:]
        if text:
            self._cut = ""
        return text


class ToolBlocks:
    """Numbers the calls of tools among the blocks of an answer."""

    def __init__(self) -> None:
        self._numbers: dict[int, int] = {}
        self._empty: set[int] = set()

    def begin(self, block: int, content: Any) -> dict[str, Any]:
        """The first fragment of a call."""
        number = self._numbers[block] = len(self._numbers)
        self._empty.add(block)
        function = {"name": content.name, "arguments": ""}
        return {"index": number, "id": content.id, "type": "function", "function": function}

    def add(self, block: int, arguments: str) -> list[dict[str, Any]]:
        """A further fragment, if there is anything in it."""
        if not arguments:
            return []
        self._empty.discard(block)
        return [{"index": self._numbers[block], "function": {"arguments": arguments}}]

    def end(self, block: int) -> list[dict[str, Any]]:
        """A call without arguments has an empty object of them."""
        return self.add(block, "{}") if block in self._empty else []


def _pieces(index: int, event: Any, seam: Seam, calls: ToolBlocks) -> Iterator[Piece]:
    """The pieces of one event."""
    if event.type == "message_start":
        yield Piece(prompt_tokens=_prompt_tokens(event.message.usage))
    elif event.type == "content_block_start" and event.content_block.type == "tool_use":
        yield Piece(index, tool_calls=[calls.begin(event.index, event.content_block)])
    elif event.type == "content_block_delta" and event.delta.type == "text_delta":
        yield Piece(index, seam.join(event.delta.text))
    elif event.type == "content_block_delta" and event.delta.type == "input_json_delta":
        yield Piece(index, tool_calls=calls.add(event.index, event.delta.partial_json))
    elif event.type == "content_block_stop":
        yield Piece(index, tool_calls=calls.end(event.index))
    elif event.type == "message_delta":
        reason = event.delta.stop_reason
        yield Piece(
            index, finish=FINISH.get(reason, "stop") if reason else None, completion_tokens=event.usage.output_tokens
        )
    else:
        yield Piece(index)


def _prompt_tokens(usage: Any) -> int:
    """With those that were written to or read from the provider's cache."""
    cached = (getattr(usage, name, None) or 0 for name in ("cache_creation_input_tokens", "cache_read_input_tokens"))
    return int(usage.input_tokens) + sum(cached)


def _messages(turns: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """OpenAI's turns in Anthropic's form: results of tools belong to the user, all of one round in one turn."""
    open_results: list[dict[str, Any]] = []
    for turn in turns:
        if turn["role"] == "tool":
            open_results.append(
                {"type": "tool_result", "tool_use_id": turn["tool_call_id"], "content": turn["content"]}
            )
            continue
        content: Any = turn["content"]
        if calls := turn.get("tool_calls"):
            text = [{"type": "text", "text": content}] if content else []
            content = [*text, *_tool_uses(calls)]
        if open_results and turn["role"] == "user":
            content, open_results = [*open_results, {"type": "text", "text": content}], []
        elif open_results:
            yield {"role": "user", "content": open_results}
            open_results = []
        yield {"role": turn["role"], "content": content}
    if open_results:
        yield {"role": "user", "content": open_results}


def _tool_uses(calls: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for call in calls:
        function = call["function"]
        arguments = orjson.loads(function.get("arguments") or "{}")
        yield {"type": "tool_use", "id": call["id"], "name": function["name"], "input": arguments}


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    function = tool["function"]
    made = {"name": function["name"], "input_schema": function.get("parameters") or {"type": "object"}}
    return made | {name: function[name] for name in ("description", "strict") if function.get(name)}


def _choice(request: Mapping[str, Any]) -> dict[str, Any] | None:
    """Which tool must, may or must not be called."""
    if not request.get("tools"):
        return None
    wanted: Any = request.get("tool_choice") or "auto"
    kind = {"auto": "auto", "required": "any", "none": "none"}.get(wanted) if isinstance(wanted, str) else "tool"
    choice: dict[str, Any] = {"type": kind}
    if kind == "tool":
        choice["name"] = wanted["function"]["name"]
    if request.get("parallel_tool_calls") is False and kind != "none":
        choice["disable_parallel_tool_use"] = True
    return choice if len(choice) > 1 or kind != "auto" else None
