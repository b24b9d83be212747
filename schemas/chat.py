"""Turns of a conversation and the tools that a model may call, in OpenAI's shapes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson
from marshmallow import INCLUDE, ValidationError, fields, post_load, pre_load, validate, validates_schema

from schemas.base.bounds import MAX_ERRORS, give_way
from schemas.base.custom_tools import OrCustom, custom_call
from schemas.base.fields import MAX_DEPTH, Boolean, Items, StrictSchema, Text, Word, too_deep
from schemas.base.message_parts import TEXTS, Content

#: `developer` is OpenAI's newer name of `system`, `function` the older one of `tool`.
ROLES = ("system", "user", "assistant", "tool", "developer", "function")
#: Calls in one turn.
MAX_CALLS = 1024
_NAME = validate.Regexp(
    r"[A-Za-z0-9_-]{1,64}\Z", error="Got {input!r}; must be 1 to 64 letters, digits, underscores or dashes."
)


def _not_too_deep(value: Any) -> None:
    if too_deep(value):
        raise ValidationError(f"Is nested deeper than {MAX_DEPTH} levels.")


class Arguments(Text):
    """The arguments of a call: any text, since models also write invalid JSON; other values are encoded as JSON."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "metadata": {"contentMediaType": "application/json", "example": "{}"}})

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> str:
        if not isinstance(value, str) and not too_deep(value):
            value = orjson.dumps(value).decode()
        return super()._deserialize(value, attr, data, **kwargs)


class NullFreeSchema(StrictSchema):
    """An object in which a null means that the field is missing."""

    @pre_load
    def _without_nulls(self, data: Any, **_: Any) -> Any:
        return {name: value for name, value in data.items() if value is not None} if isinstance(data, dict) else data


class AnsweredSchema(NullFreeSchema):
    """A part of an answer: fields that its provider has added are kept."""

    class Meta:
        unknown = INCLUDE

    @validates_schema
    def _extras_are_not_too_deep(self, data: dict[str, Any], **_: Any) -> None:
        for name in data.keys() - self.fields.keys():
            if too_deep(data[name]):
                raise ValidationError(f"Is nested deeper than {MAX_DEPTH} levels.", name)


class CalledFunctionSchema(AnsweredSchema):
    """The called function and its arguments, as the model wrote them."""

    name = Text(required=True)
    arguments = Arguments(load_default="")


class ToolCallSchema(AnsweredSchema):
    """A call that the assistant made in an earlier turn."""

    id = Text(required=True, validate=validate.Length(1))
    type = Text(load_default="function")
    function = fields.Nested(CalledFunctionSchema, required=True)

    @post_load
    def _without_its_number(self, data: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Drop the number of the call, which streams have, since the order says the same."""
        return {name: value for name, value in data.items() if name != "index"}


class MessageSchema(AnsweredSchema):
    """One turn of a conversation.

    An assistant's turn may have `tool_calls` in place of its text, and whatever else its provider has put there; a
    tool's turn names the call that it answers.
    """

    role = Word(ROLES, required=True)
    content = Content(allow_none=True)
    name = Text(validate=validate.Length(1, 64))
    tool_calls = Items(OrCustom(ToolCallSchema, custom_call), most=MAX_CALLS)
    tool_call_id = Text(validate=validate.Length(1))

    @pre_load
    def _without_nulls(self, data: Any, **_: Any) -> Any:
        """Drop nulls. A tool's content is always kept; empty fields of an assistant are dropped, too."""
        given = super()._without_nulls(data)
        if not isinstance(data, dict):
            return given
        if data.get("role") in ("tool", "function") and "content" in data:
            return {"content": "", **given}
        if data.get("role") != "assistant":
            return given
        called = given.get("function_call")
        if isinstance(called, dict) and all(value in (None, "") for value in called.values()):
            del given["function_call"]
        return {name: value for name, value in given.items() if value != "" or name not in ("name", "tool_call_id")}

    @validates_schema
    def _fits_its_role(self, data: dict[str, Any], **_: Any) -> None:
        role = data.get("role")
        if role != "assistant":
            if data.get("content") is None:
                raise ValidationError("Missing; only an assistant's turn may have none.", "content")
            if data.get("tool_calls"):
                raise ValidationError(f"Only for the role assistant, not for {role}.", "tool_calls")
            if unknown := data.keys() - self.fields.keys():
                raise ValidationError({name: [self.error_messages["unknown"]] for name in sorted(unknown)[:MAX_ERRORS]})
        elif "function_call" in data and (errors := CalledFunctionSchema().validate(data["function_call"])):
            raise ValidationError({"function_call": errors})
        if ("tool_call_id" in data) != (role == "tool"):
            raise ValidationError("Needed for the role tool, and only there.", "tool_call_id")

    @post_load
    def _plain(self, data: dict[str, Any], **_: Any) -> dict[str, Any]:
        role = "system" if data["role"] == "developer" else data["role"]
        given = {name: value for name, value in data.items() if value not in ("", [], {})}
        return {**given, "role": role, "content": data.get("content") or ""}


def with_ids(turns: list[Any]) -> list[Any]:
    """Add missing ids to calls and their results, matched by order: results follow right after the calls. Others are
    left as they are.
    """
    found = list(turns)
    known: set[str] = set()
    for number, turn in enumerate(turns):
        give_way(number)
        calls = turn.get("tool_calls") if isinstance(turn, dict) and turn.get("role") == "assistant" else None
        if not isinstance(calls, list):
            continue
        known |= {call["id"] for call in calls if isinstance(call, dict) and isinstance(call.get("id"), str)} - {""}
        nameless = [i for i, call in enumerate(calls) if isinstance(call, dict) and _is_empty(call.get("id"))]
        if not nameless:
            continue
        calls = list(calls)
        for i, (at, result) in zip(nameless, _results(turns, number + 1, known), strict=False):
            call_id = result.get("tool_call_id") or f"call_{number}_{i}"
            calls[i] = {**calls[i], "id": call_id}
            found[at] = {**result, "tool_call_id": call_id}
        found[number] = {**turn, "tool_calls": calls}
    return found


def _results(turns: list[Any], first: int, known: set[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The next results that answer none of the known calls, with their indexes."""
    for at in range(first, len(turns)):
        turn = turns[at]
        if not isinstance(turn, dict) or turn.get("role") != "tool":
            return
        call_id = turn.get("tool_call_id")
        if _is_empty(call_id) or (isinstance(call_id, str) and call_id not in known):
            yield at, turn


def _is_empty(value: Any) -> bool:
    return value is None or value == ""


def with_tools(turns: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Convert old `function_call` turns: they become tool calls, and their results those of tools."""
    found, call_id = [], ""
    for number, turn in enumerate(turns):
        give_way(number)
        turn = dict(turn)
        called = turn.pop("function_call", None)
        if called and not turn.get("tool_calls"):
            call_id = f"call_{number}"
            turn["tool_calls"] = [{"id": call_id, "type": "function", "function": CalledFunctionSchema().load(called)}]
        if turn["role"] == "function":
            turn |= {"role": "tool", "tool_call_id": call_id or f"call_{number}"}
        found.append(turn)
    return found


def message_shapes(message: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON schema of a message, with the rules of `_fits_its_role`: each role has its own shape."""
    fields = dict(message["properties"])
    content = {"anyOf": [shape for shape in fields["content"]["anyOf"] if shape != {"type": "null"}]}
    text = {"anyOf": list(TEXTS)}
    plain = {
        "role": {"type": "string", "enum": ["system", "developer"]},
        "content": text,
        "name": fields["name"],
    }
    assistant = {
        "role": {"type": "string", "enum": ["assistant"]},
        "content": {"anyOf": [*TEXTS, {"type": "null"}]},
        "name": fields["name"],
        "tool_calls": fields["tool_calls"],
    }
    user = {**plain, "role": {"type": "string", "enum": ["user"]}, "content": content}
    tool = {**user, "role": {"type": "string", "enum": ["tool"]}, "tool_call_id": fields["tool_call_id"]}
    function = {**plain, "role": {"type": "string", "enum": ["function"]}}
    shapes = [
        (plain, ["role", "content"], False),
        (user, ["role", "content"], False),
        (assistant, ["role"], {"description": "What the provider has put beside its answer"}),
        (tool, ["role", "content", "tool_call_id"], False),
        (function, ["role", "content"], False),
    ]
    return {
        "anyOf": [
            {"type": "object", "properties": properties, "required": required, "additionalProperties": others}
            for properties, required, others in shapes
        ]
    }


class FunctionSchema(NullFreeSchema):
    """A function that the model may call. `parameters` is a JSON schema."""

    name = Text(required=True, validate=_NAME)
    description = Text(allow_none=True)
    parameters = fields.Dict(Text(), allow_none=True, validate=_not_too_deep)
    strict = Boolean(allow_none=True)


class ToolSchema(NullFreeSchema):
    """A tool that is a function; for others see `schemas/base/custom_tools.py`."""

    type = Word(("function",), load_default="function")
    function = fields.Nested(FunctionSchema, required=True)
