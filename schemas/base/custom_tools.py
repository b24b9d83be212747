"""Custom tools, which take free text in place of arguments, in OpenAI's shapes. Only remote models know them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from marshmallow import Schema, ValidationError, fields

from schemas.base.fields import MAX_DEPTH, as_text, shown, too_deep

CUSTOM = "custom"


class OrCustom(fields.Nested):
    """An object of a schema, or one of the type `custom`, which is checked by a function of its own."""

    def __init__(self, nested: type[Schema], check: Callable[[Mapping[str, Any]], dict[str, Any]], **kwargs: Any):
        super().__init__(nested, **kwargs)
        self._check = check

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, partial: Any = None, **kwargs: Any
    ) -> Any:
        if isinstance(value, dict) and value.get("type") == CUSTOM:
            return self._check(value)
        return super()._deserialize(value, attr, data, partial, **kwargs)


def custom_tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    """A tool. Raises: ValidationError."""
    return {"type": CUSTOM, CUSTOM: _custom(tool)}


def custom_call(call: Mapping[str, Any]) -> dict[str, Any]:
    """A call of an earlier turn, with what its provider has put there. Raises: ValidationError."""
    custom = _custom(call)
    if not isinstance(call.get("id"), str) or not call["id"]:
        raise ValidationError({"id": [f"Got {shown(call.get('id'))}; must be text."]})
    as_text(custom.setdefault("input", ""))
    if too_deep(call):
        raise ValidationError(f"Is nested deeper than {MAX_DEPTH} levels.")
    others = {name: value for name, value in call.items() if value is not None and name != "index"}
    return {**others, CUSTOM: custom}


def _custom(given: Mapping[str, Any]) -> dict[str, Any]:
    custom = given.get(CUSTOM)
    if not isinstance(custom, dict) or not isinstance(custom.get("name"), str) or not custom["name"]:
        raise ValidationError({CUSTOM: [f"Got {shown(custom)}; must be an object with a name."]})
    as_text(custom["name"])
    if too_deep(custom):
        raise ValidationError({CUSTOM: [f"Is nested deeper than {MAX_DEPTH} levels."]})
    return {name: value for name, value in custom.items() if value is not None}
