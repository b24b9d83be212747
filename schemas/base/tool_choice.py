"""Whether a model must call a tool, and which ones it may call: OpenAI's `tool_choice`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from marshmallow import ValidationError, fields

from schemas.base.fields import shaped, shown

#: Tools in one request.
MAX_TOOLS = 128
_MODES = ("auto", "required")
#: Types of tools; those of the type `custom` are for remote models only.
_KINDS = ("function", "custom")


class ToolChoice(fields.Field[Any]):
    """`none`, `auto`, `required`, the one function that must be called, or those that may be called.

    The latter load to `{"type": "allowed_tools", "allowed_tools": {"mode", "tools"}}`, also from OpenAI's flat form.
    """

    WORDS = ("none", "auto", "required")

    def __init__(self, **kwargs: Any) -> None:
        function = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
        one = {
            "type": "object",
            "properties": {"type": {"type": "string", "enum": ["function"]}, "function": function},
            "required": ["type", "function"],
        }
        several = {
            "type": "object",
            "properties": {
                "mode": {"type": "string", "enum": list(_MODES)},
                "tools": {"type": "array", "items": one, "minItems": 1},
            },
            "required": ["mode", "tools"],
        }
        allowed = {
            "type": "object",
            "properties": {"type": {"type": "string", "enum": ["allowed_tools"]}, "allowed_tools": several},
            "required": ["type", "allowed_tools"],
        }
        super().__init__(**shaped(kwargs, {"type": "string", "enum": list(self.WORDS)}, one, allowed))

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Any:
        if isinstance(value, str) and value in self.WORDS:
            return value
        if isinstance(value, dict) and value.get("type") == "allowed_tools":
            return {"type": "allowed_tools", "allowed_tools": _allowed(value.get("allowed_tools", value))}
        if (named := _named(value)) is not None:
            return named
        raise ValidationError(
            f"Got {shown(value)}; allowed: {', '.join(self.WORDS)}, "
            '{"type": "function", "function": {"name": "..."}}, '
            '{"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [...]}}.'
        )


def chosen(choice: Any) -> list[str] | None:
    """The names of the tools that may be called; None: all of them."""
    if not isinstance(choice, Mapping):
        return None
    tools: Sequence[Any] = choice["allowed_tools"]["tools"] if "allowed_tools" in choice else [choice]
    return [tool[tool["type"]]["name"] for tool in tools]


def is_forced(choice: Any) -> bool:
    """Whether a function must be called."""
    if isinstance(choice, Mapping):
        return "allowed_tools" not in choice or bool(choice["allowed_tools"]["mode"] == "required")
    return bool(choice == "required")


def _allowed(value: Any) -> dict[str, Any]:
    mode = value.get("mode", "auto") if isinstance(value, dict) else None
    tools = value.get("tools") if isinstance(value, dict) else None
    if mode not in _MODES:
        raise ValidationError({"allowed_tools": {"mode": [f"Got {shown(mode)}; allowed: {', '.join(_MODES)}."]}})
    named = [_named(tool) for tool in tools] if isinstance(tools, list) else []
    if not 1 <= len(named) <= MAX_TOOLS or None in named:
        text = f"Got {shown(tools)}; must be 1 to {MAX_TOOLS} of the tools, each by its type and name."
        raise ValidationError({"allowed_tools": {"tools": [text]}})
    return {"mode": mode, "tools": named}


def _named(value: Any) -> dict[str, Any] | None:
    """One tool, from `{"type": "function", "function": {"name": ...}}` or the flat form; None if it is none."""
    kind = value.get("type") if isinstance(value, dict) else None
    if kind not in _KINDS:
        return None
    inner = value.get(kind, value)
    name = inner.get("name") if isinstance(inner, dict) else None
    return {"type": kind, kind: {"name": name}} if isinstance(name, str) else None
