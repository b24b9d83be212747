"""Bodies of Anthropic's protocol, from requests in OpenAI's words. Knows no SDK; its turns are made in `turns.py`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from gateway.models.protocols import anthropic as words
from gateway.models.protocols.reasoning import effort, thinking
from workers.providers.base import UpstreamRequest
from workers.providers.protocols import turns

SAMPLING = ("temperature", "top_p", "top_k")
#: The highest temperature, and characters in the id of a user.
MAX_TEMPERATURE, MAX_USER = 1.0, 256


def message(ask: UpstreamRequest, begun: str) -> dict[str, Any]:
    """The body. `begun`: the beginning of the answer, without white space at its end."""
    request = ask.request
    conversation = list(request["messages"]) if ask.kind == "chat" else [{"role": "user", "content": ask.prompt}]
    if begun:
        conversation.append({"role": "assistant", "content": begun})
    thoughts = None if begun else thinking(ask.model, request)
    optional = {
        "system": turns.system(conversation),
        "stop_sequences": request.get("stop"),
        "tools": _tools(request, conversation),
        "tool_choice": _choice(request),
        "thinking": thoughts,
        "output_config": _output(ask),
        "metadata": {"user_id": _user_id(user)} if (user := words.user(request)) else None,
        "service_tier": words.tier(request),
    }
    return {
        "model": ask.upstream,
        "stream": True,
        "messages": turns.messages(conversation, provider=ask.provider.name, named=ask.named),
        "max_tokens": _longest(ask, thoughts),
        **{name: value for name, value in optional.items() if value},
        **_sampling(request),
    }


def _longest(ask: UpstreamRequest, thoughts: Mapping[str, Any] | None) -> int:
    """The API must be told; if the client has not said it, thoughts come on top of an answer."""
    budget = int((thoughts or {}).get("budget_tokens") or 0)
    usual = ask.model.default_max_tokens or ask.model.told_answer
    return ask.max_tokens or min(ask.model.told_answer, usual + budget)


def _sampling(request: Mapping[str, Any]) -> dict[str, Any]:
    given = {name: request[name] for name in SAMPLING if request.get(name) is not None}
    if "temperature" in given:  # as the provider's own page for OpenAI's clients says
        given["temperature"] = min(given["temperature"], MAX_TEMPERATURE)
    return given


def _output(ask: UpstreamRequest) -> dict[str, Any]:
    """How much effort the answer is worth, and its form."""
    request = ask.request
    found: dict[str, Any] = {}
    if level := effort(ask.model, request):
        found["effort"] = level
    if (schema := words.schema_of(request)) is not None:
        found["format"] = {"type": "json_schema", "schema": schema}
    return found


def _tools(request: Mapping[str, Any], turns_sent: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The tools that may be called; those of earlier calls must be among them, if there are none."""
    if request.get("tools"):
        allowed = _allowed(request)
        return [_tool(tool) for tool in request["tools"] if allowed is None or tool["function"]["name"] in allowed]
    calls = (turns.called(call) for turn in turns_sent for call in turn.get("tool_calls") or ())
    names = {turns.tool_name(name) for name, _ in calls}
    return [{"name": name, "input_schema": {"type": "object"}} for name in sorted(names)]


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    function = tool["function"]
    made = {"name": function["name"], "input_schema": {**(function.get("parameters") or {}), "type": "object"}}
    return made | {name: function[name] for name in ("description", "strict") if function.get(name)}


def _allowed(request: Mapping[str, Any]) -> set[str] | None:
    """The names of the tools that a request allows of those it has; None = all. The API knows no such list."""
    choice = request.get("tool_choice")
    given = choice.get("allowed_tools") if isinstance(choice, Mapping) else None
    if not isinstance(given, Mapping):
        return None
    return {str((tool.get("function") or {}).get("name")) for tool in given.get("tools") or ()}


def _choice(request: Mapping[str, Any]) -> dict[str, Any] | None:
    """Which tool must, may or must not be called."""
    if not request.get("tools"):
        return {"type": "none"} if any(turn.get("tool_calls") for turn in request.get("messages") or ()) else None
    wanted: Any = request.get("tool_choice") or "auto"
    if isinstance(wanted, Mapping) and "allowed_tools" in wanted:
        wanted = wanted["allowed_tools"].get("mode") or "auto"
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
