"""Turns of a conversation and the tools that a model may call, in OpenAI's shapes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from marshmallow import ValidationError, fields, post_load, validate, validates_schema

from schemas.bounds import give_way
from schemas.fields import MAX_DEPTH, Boolean, Items, StrictSchema, Text, Word, shaped, shown, too_deep

#: `developer` is OpenAI's newer name of `system`.
ROLES = ("system", "user", "assistant", "tool", "developer")
#: Tools in one request.
MAX_TOOLS = 128
_NAME = validate.Regexp(
    r"[A-Za-z0-9_-]{1,64}\Z", error="Got {input!r}; must be 1 to 64 letters, digits, underscores or dashes."
)


def _not_too_deep(value: Any) -> None:
    if too_deep(value):
        raise ValidationError(f"Is nested deeper than {MAX_DEPTH} levels.")


class Content(fields.Field[str]):
    """A text, or a list of parts `{"type": "text", "text": ...}`, which are joined."""

    def __init__(self, **kwargs: Any) -> None:
        text = {"type": "string"}
        part = {
            "type": "object",
            "properties": {"type": {"type": "string", "enum": ["text"]}, "text": text},
            "required": ["type", "text"],
        }
        super().__init__(**shaped(kwargs, text, {"type": "array", "items": part}))

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> str:
        if not isinstance(value, list):
            return str(Text().deserialize(value))
        for index, part in enumerate(value):
            give_way(index)
            if not isinstance(part, dict) or part.get("type") != "text":
                raise ValidationError(f'Got the part {shown(part)}; allowed: {{"type": "text", "text": "..."}}.')
        return "".join(Text().deserialize(part.get("text")) for part in value)


class Arguments(Text):
    """The arguments of a call: a JSON object, as text."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "metadata": {"contentMediaType": "application/json", "example": "{}"}})

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> str:
        text = super()._deserialize(value, attr, data, **kwargs)
        try:
            value = orjson.loads(text or "{}")
        except orjson.JSONDecodeError:
            value = None
        if isinstance(value, dict) and not too_deep(value):
            return text
        raise ValidationError(f"Got {shown(text)}; must be a JSON object as text, of at most {MAX_DEPTH} levels.")


class CalledFunctionSchema(StrictSchema):
    """Which function is called, and with what."""

    name = Text(required=True, validate=_NAME)
    arguments = Arguments(required=True)


class ToolCallSchema(StrictSchema):
    """A call that the assistant made in an earlier turn."""

    id = Text(required=True, validate=validate.Length(1, 128))
    type = Word(("function",), load_default="function")
    function = fields.Nested(CalledFunctionSchema, required=True)


class MessageSchema(StrictSchema):
    """One turn of a conversation.

    An assistant's turn may have `tool_calls` in place of its text; a tool's turn names the call that it answers.
    """

    role = Word(ROLES, required=True)
    content = Content(allow_none=True)
    name = Text(validate=validate.Length(1, 64))
    tool_calls = Items(fields.Nested(ToolCallSchema), least=1, most=MAX_TOOLS)
    tool_call_id = Text(validate=validate.Length(1, 128))

    @validates_schema
    def _fits_its_role(self, data: dict[str, Any], **_: Any) -> None:
        role = data.get("role")
        if data.get("content") is None and not (role == "assistant" and data.get("tool_calls")):
            raise ValidationError("Missing; only an assistant's turn with tool_calls may have none.", "content")
        if "tool_calls" in data and role != "assistant":
            raise ValidationError(f"Only for the role assistant, not for {role}.", "tool_calls")
        if ("tool_call_id" in data) != (role == "tool"):
            raise ValidationError("Needed for the role tool, and only there.", "tool_call_id")

    @post_load
    def _plain(self, data: dict[str, Any], **_: Any) -> dict[str, Any]:
        role = "system" if data["role"] == "developer" else data["role"]
        return {**data, "role": role, "content": data.get("content") or ""}


def message_shapes(message: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON schema of a message, with what `_fits_its_role` asks: each role has a shape of its own."""
    fields = dict(message["properties"])
    text = {"anyOf": [shape for shape in fields["content"]["anyOf"] if shape != {"type": "null"}]}
    plain = {
        "role": {"type": "string", "enum": ["system", "user", "developer"]},
        "content": text,
        "name": fields["name"],
    }
    assistant = {**plain, "role": {"type": "string", "enum": ["assistant"]}, "tool_calls": fields["tool_calls"]}
    tool = {**plain, "role": {"type": "string", "enum": ["tool"]}, "tool_call_id": fields["tool_call_id"]}
    shapes = [
        (plain, ["role", "content"]),
        (assistant, ["role", "content"]),
        (assistant | {"content": fields["content"]}, ["role", "tool_calls"]),
        (tool, ["role", "content", "tool_call_id"]),
    ]
    return {
        "anyOf": [
            {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
            for properties, required in shapes
        ]
    }


class FunctionSchema(StrictSchema):
    """A function that the model may call. `parameters` is a JSON schema."""

    name = Text(required=True, validate=_NAME)
    description = Text(allow_none=True)
    parameters = fields.Dict(Text(), allow_none=True, validate=_not_too_deep)
    strict = Boolean(allow_none=True)


class ToolSchema(StrictSchema):
    """A tool: always a function."""

    type = Word(("function",), load_default="function")
    function = fields.Nested(FunctionSchema, required=True)


class ToolChoice(fields.Field[Any]):
    """`none`, `auto`, `required`, or the one function that must be called."""

    WORDS = ("none", "auto", "required")

    def __init__(self, **kwargs: Any) -> None:
        function = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
        one = {
            "type": "object",
            "properties": {"type": {"type": "string", "enum": ["function"]}, "function": function},
            "required": ["type", "function"],
        }
        super().__init__(**shaped(kwargs, {"type": "string", "enum": list(self.WORDS)}, one))

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Any:
        if value in self.WORDS:
            return value
        named = value.get("function") if isinstance(value, dict) and value.get("type") == "function" else None
        if isinstance(named, dict) and isinstance(named.get("name"), str):
            return {"type": "function", "function": {"name": named["name"]}}
        raise ValidationError(
            f"Got {shown(value)}; allowed: {', '.join(self.WORDS)}, "
            '{"type": "function", "function": {"name": "..."}}.'
        )
