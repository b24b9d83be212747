"""A request of OpenAI's clients in our words: older names, what is the same as nothing, and what we do not read.

Fields that nobody here reads are put aside, for the provider of a remote model. Knows only the names of fields.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from marshmallow import ValidationError

from schemas.base.bounds import give_way
from schemas.base.fields import MAX_DEPTH, too_deep
from schemas.chat import FunctionSchema, MessageSchema, ToolSchema

#: Fields put aside in one request, and names of inner fields that are reported.
MAX_PASSED_ON, MAX_NAMED = 100, 20
#: Lists that clients also send when they are empty.
_LISTS = ("tools", "functions")
_TURN, _TOOL, _FUNCTION = (frozenset(schema().fields) for schema in (MessageSchema, ToolSchema, FunctionSchema))


@dataclass
class Wording:
    """A request in our words."""

    body: dict[str, Any]
    #: Fields that we do not read.
    passed_on: dict[str, Any] = field(default_factory=dict)
    #: Inner fields that were dropped, such as `messages.id`.
    dropped: list[str] = field(default_factory=list)
    #: The request has `functions`: its answer has `function_call`.
    old_calls: bool = False


def reworded(body: Mapping[str, Any], known: Collection[str], stream_options: Collection[str]) -> Wording:
    """The request with only `known` fields, and with those options of a stream. Raises: ValidationError."""
    found = {name: value for name, value in body.items() if value is not None and not (name in _LISTS and value == [])}
    said = Wording(found)
    if "tools" in known:
        _use_tools(said)
    if "max_completion_tokens" in known and "max_completion_tokens" in found:
        found.pop("max_tokens", None)
    said.passed_on = {name: found.pop(name) for name in found.keys() - known}
    _require_bounded(said.passed_on)
    names: dict[str, None] = {}
    options = found.get("stream_options")
    if isinstance(options, dict):
        found["stream_options"] = _only(options, stream_options, "stream_options", names)
    if isinstance(found.get("messages"), list):
        found["messages"] = [_turn(turn, names) for turn in _in_turns(found["messages"])]
    if isinstance(found.get("tools"), list):
        found["tools"] = [_tool(tool, names) for tool in _in_turns(found["tools"])]
    said.dropped = list(names)[:MAX_NAMED]
    return said


def _use_tools(said: Wording) -> None:
    """Say `functions` and `function_call`, the names before there were tools, in the words of tools."""
    body = said.body
    functions, wanted = body.pop("functions", None), body.pop("function_call", None)
    if functions is not None and "tools" not in body:
        said.old_calls = True
        body["parallel_tool_calls"] = False
        is_list = isinstance(functions, list)
        body["tools"] = [{"type": "function", "function": one} for one in functions] if is_list else functions
        if wanted is not None:
            body["tool_choice"] = {"type": "function", "function": wanted} if isinstance(wanted, dict) else wanted
    if body.get("tool_choice") == "auto" and "tools" not in body:
        del body["tool_choice"]


def in_old_words(messages: Any) -> Any:
    """The errors of a request that has `functions`, by its own names."""
    names = {"tools": "functions", "tool_choice": "function_call"}
    return (
        {names.get(name, name): texts for name, texts in messages.items()} if isinstance(messages, dict) else messages
    )


def _require_bounded(passed_on: Mapping[str, Any]) -> None:
    if len(passed_on) > MAX_PASSED_ON:
        raise ValidationError(f"Has {len(passed_on)} fields that are unknown here; at most {MAX_PASSED_ON} are taken.")
    if deep := next((name for name, value in passed_on.items() if too_deep(value)), None):
        raise ValidationError({deep: [f"Is nested deeper than {MAX_DEPTH} levels."]})


def _in_turns(items: list[Any]) -> Iterable[Any]:
    for index, item in enumerate(items):
        give_way(index)
        yield item


def _turn(turn: Any, names: dict[str, None]) -> Any:
    """A turn with what is known of it; an answer keeps what its provider has put there."""
    if not isinstance(turn, dict) or turn.get("role") == "assistant":
        return turn
    return _only(turn, _TURN, "messages", names)


def _tool(tool: Any, names: dict[str, None]) -> Any:
    if not isinstance(tool, dict) or tool.get("type", "function") != "function":
        return tool
    known = _only(tool, _TOOL, "tools", names)
    if isinstance(known.get("function"), dict):
        known["function"] = _only(known["function"], _FUNCTION, "tools.function", names)
    return known


def _only(given: Mapping[str, Any], known: Collection[str], at: str, names: dict[str, None]) -> dict[str, Any]:
    """The known fields; the names of others that say something are noted."""
    others = (name for name, value in given.items() if name not in known and value is not None)
    names |= {f"{at}.{name}": None for name in others if len(names) < MAX_NAMED}
    return {name: value for name, value in given.items() if name in known}
