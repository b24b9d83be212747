"""The grammar of a function's arguments, from the schema of its parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from gateway.grammars.forms import Form, grammar_of
from gateway.grammars.grammar import Grammar
from gateway.grammars.json_schema import json_value
from schemas.base.tool_choice import chosen, is_forced

#: Any object.
ANY_OBJECT: Mapping[str, Any] = {"type": "object"}


Functions = list[tuple[int, Mapping[str, Any]]]


def may_call(request: Mapping[str, Any]) -> Functions:
    """The functions that may be called, with their places among the tools."""
    choice = request.get("tool_choice")
    tools: Sequence[Mapping[str, Any]] = () if choice == "none" else request.get("tools") or ()
    names = chosen(choice)
    return [
        (place, tool["function"])
        for place, tool in enumerate(tools)
        if "function" in tool and (names is None or tool["function"]["name"] in names)
    ]


def guaranteed(request: Mapping[str, Any]) -> Functions:
    """Those whose arguments must be valid: all of them if one must be called, else those that are strict."""
    forced = is_forced(request.get("tool_choice"))
    return [(place, function) for place, function in may_call(request) if forced or function.get("strict")]


def arguments_grammar(place: int, function: Mapping[str, Any]) -> Grammar:
    """The arguments of a function, which stands at a place among the tools. A function without parameters has none.

    Raises:
        InvalidRequest: naming the field, the place in it, the keyword that can't be done and what is allowed.
    """
    return grammar_of(Form("json", _closed(function.get("parameters")), f"tools.{place}.function.parameters"))


def require_arguments(request: Mapping[str, Any]) -> None:
    """Raises: InvalidRequest if arguments must be valid, and their schema can't be guaranteed."""
    for place, function in guaranteed(request):
        arguments_grammar(place, function)


@cache
def any_object() -> Grammar:
    """The arguments of a function that is not strict."""
    return json_value(ANY_OBJECT)


def _closed(schema: Any) -> Any:
    """The schema of an object that has only the properties that are named, if any are."""
    if not schema:
        return {**ANY_OBJECT, "properties": {}, "additionalProperties": False}
    if not isinstance(schema, Mapping):
        return schema
    names = {} if "type" in schema else ANY_OBJECT
    return {**names, **schema} if "properties" not in schema else {"additionalProperties": False, **names, **schema}
