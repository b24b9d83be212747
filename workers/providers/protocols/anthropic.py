"""Anthropic's Messages API, by Anthropic's own SDK. A completion is asked as a chat whose only turn is the prompt.

The SDK makes the calls; what comes back is read in `content_blocks.py`, what is sent is put together in `turns.py`.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

import anthropic

from gateway.jobs.journal import prompts_of
from gateway.models.entry import Provider
from schemas.base.fields import shown
from workers.providers.base import UpstreamDelta, UpstreamRequest
from workers.providers.protocols import turns, wire
from workers.providers.protocols.content_blocks import Blocks, PrefixJoiner
from workers.providers.secrets import key_of

#: Anthropic's own server.
BASE_URL = "https://api.anthropic.com"
#: The last version of the API that takes `SAMPLING`: 2026-10-21, which the SDK asks for, refuses them at any value.
SAMPLING_VERSION = "2023-06-01"
SAMPLING = ("temperature", "top_p", "top_k")
#: Numbers that the API has no word for, with the value at which they do nothing.
_UNKNOWN = {"seed": None, "presence_penalty": 0, "frequency_penalty": 0, "repetition_penalty": 1, "logprobs": False}
#: What the schema of a tool's arguments may not have on the outside, and what the name of an argument must be.
_COMBINED = ("anyOf", "oneOf", "allOf")
_ARGUMENT = re.compile("[a-zA-Z0-9_.-]{1,64}")
#: The highest temperature, and characters in the id of a user.
MAX_TEMPERATURE, MAX_USER = 1.0, 256


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
        for number, stop in enumerate(request.get("stop") or ()):
            if not stop.strip():
                found[f"stop.{number}"] = [f"Got {stop!r}; this provider's API takes no stop text of white space only."]
        for number, tool in enumerate(request.get("tools") or ()):
            found |= _refused_schema(f"tools.{number}.function.parameters", tool["function"].get("parameters") or {})
        if kind == "completion" and any(isinstance(prompt, list) for prompt in prompts_of(request)):
            found["prompt"] = ["This provider's API takes no token ids. Send a text."]
        elif not _says_something(kind, request):
            found["messages" if kind == "chat" else "prompt"] = ["This provider's API needs a text that is not blank."]
        return found

    def splits(self, ask: UpstreamRequest) -> bool:
        """A call has one answer."""
        return len(ask.indexes) > 1

    def continues(self, kind: str) -> bool:
        """By a last turn that the model goes on with (`prefill`), which newer models refuse: the catalog says so."""
        return self._provider.continuation in ("", "prefill")

    async def stream(self, ask: UpstreamRequest) -> AsyncGenerator[UpstreamDelta]:
        """See `base.py`."""
        seam = PrefixJoiner(ask.before)
        blocks = Blocks(ask, self._provider.name, seam)
        call = self._client.messages.with_streaming_response.create(**self._body(ask, seam.begun))
        async with call as response, contextlib.aclosing(wire.events(response.iter_bytes())) as events:
            async for event in events:
                for piece in blocks.take(event):
                    yield piece
        for piece in blocks.end():
            yield piece

    async def close(self) -> None:
        """See `base.py`."""
        await self._client.close()

    def _body(self, ask: UpstreamRequest, begun: str) -> dict[str, Any]:
        request = ask.request
        conversation = list(request["messages"]) if ask.kind == "chat" else [{"role": "user", "content": ask.prompt}]
        if begun:
            conversation.append({"role": "assistant", "content": begun})
        sent: dict[str, Any] = {
            "model": ask.upstream,
            "stream": True,
            "messages": turns.messages(conversation, provider=self._provider.name, named=ask.named),
            "max_tokens": ask.max_tokens or ask.model.default_max_tokens or ask.model.max_tokens,
        }
        sampling = {name: request[name] for name in SAMPLING if request.get(name) is not None}
        if "temperature" in sampling:  # as the provider's own page for OpenAI's clients says
            sampling["temperature"] = min(sampling["temperature"], MAX_TEMPERATURE)
        if sampling:
            sent |= {"extra_body": sampling, "extra_headers": {"anthropic-version": SAMPLING_VERSION}}
        optional = {
            "system": turns.system(conversation),
            "stop_sequences": request.get("stop"),
            "tools": _tools(request, conversation),
            "tool_choice": _choice(request),
            "metadata": {"user_id": _user_id(request["user"])} if request.get("user") else None,
        }
        return sent | {name: value for name, value in optional.items() if value}


def _says_something(kind: str, request: Mapping[str, Any]) -> bool:
    if kind == "chat":
        return any(turn["content"].strip() or turn.get("tool_calls") for turn in request["messages"])
    return all(isinstance(prompt, list) or prompt.strip() for prompt in prompts_of(request))


def _refused_schema(name: str, schema: Mapping[str, Any]) -> dict[str, list[str]]:
    """What the API takes in no schema of a tool's arguments; deeper in it, it takes both."""
    if combined := next((word for word in _COMBINED if word in schema), None):
        return {f"{name}.{combined}": ["This provider's API takes it within properties only. Leave it out."]}
    properties = schema.get("properties")
    for argument in properties if isinstance(properties, dict) else ():
        if not _ARGUMENT.fullmatch(argument):
            allowed = "this provider's API takes 1 to 64 letters, digits, underscores, dots or dashes"
            return {f"{name}.properties": [f"Got the name {shown(argument)}; {allowed}."]}
    return {}


def _tools(request: Mapping[str, Any], turns_sent: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The tools; those of earlier calls must be among them, if there are none."""
    if request.get("tools"):
        return [_tool(tool) for tool in request["tools"]]
    names = {turns.tool_name(call["function"]["name"]) for turn in turns_sent for call in turn.get("tool_calls") or ()}
    return [{"name": name, "input_schema": {"type": "object"}} for name in sorted(names)]


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    function = tool["function"]
    made = {"name": function["name"], "input_schema": {**(function.get("parameters") or {}), "type": "object"}}
    return made | {name: function[name] for name in ("description", "strict") if function.get(name)}


def _choice(request: Mapping[str, Any]) -> dict[str, Any] | None:
    """Which tool must, may or must not be called."""
    if not request.get("tools"):
        return {"type": "none"} if any(turn.get("tool_calls") for turn in request.get("messages") or ()) else None
    wanted: Any = request.get("tool_choice") or "auto"
    kind = {"auto": "auto", "required": "any", "none": "none"}.get(wanted) if isinstance(wanted, str) else "tool"
    choice: dict[str, Any] = {"type": kind}
    if kind == "tool":
        choice["name"] = wanted["function"]["name"]
    if request.get("parallel_tool_calls") is False and kind != "none":
        choice["disable_parallel_tool_use"] = True
    return choice if len(choice) > 1 or kind != "auto" else None


def _user_id(user: str) -> str:
    """The API takes short ones only; what matters is that it is always the same."""
    return user if len(user) <= MAX_USER else hashlib.sha256(user.encode()).hexdigest()
