"""How much a model is to think before it answers, and what its chat template is told, as servers' clients say it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson
from marshmallow import Schema, ValidationError, fields, validate

from schemas.base.fields import Boolean, Text, shaped, shown, too_deep

#: Variables for the template, and bytes of all of them as JSON.
MAX_VARIABLES, MAX_VARIABLE_BYTES = 64, 16_384
#: Words of `thinking`, as Anthropic's clients say it.
_THINKING = ("enabled", "disabled", "adaptive")
_VARIABLE = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
#: What the server itself tells a template.
RESERVED = frozenset(
    (
        *("messages", "tools", "documents", "conversations", "conversation", "chat_template", "tokenize"),
        *("add_generation_prompt", "continue_final_message", "return_assistant_tokens_mask", "return_tensors"),
        *("return_dict", "padding", "strftime_now", "raise_exception", "namespace", "range", "dict", "lipsum"),
        *("cycler", "joiner", "loop", "self", "bos_token", "eos_token", "unk_token", "sep_token", "pad_token"),
        *("cls_token", "mask_token"),
    )
)


class TemplateVariables(fields.Field[dict[str, Any]]):
    """Variables of the model's chat template. They are no way to change what else it is told."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**shaped(kwargs, {"type": "object", "additionalProperties": True}))

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise ValidationError(f"Got {shown(value)}; must be an object.")
        for name in value:
            if not isinstance(name, str) or not _VARIABLE.fullmatch(name) or name in RESERVED:
                raise ValidationError(f"Got the name {shown(name)}, which is reserved, or can't be one of a variable.")
        if len(value) > MAX_VARIABLES or too_deep(value) or len(orjson.dumps(value)) > MAX_VARIABLE_BYTES:
            raise ValidationError(
                f"Is too large: at most {MAX_VARIABLES} variables, {MAX_VARIABLE_BYTES} bytes of JSON."
            )
        return value


class Thinking(fields.Field[Any]):
    """`true` or `false`, or an object with a type, as Anthropic has it."""

    def __init__(self, **kwargs: Any) -> None:
        kind = {"type": "string", "enum": list(_THINKING)}
        wanted = {"type": "object", "properties": {"type": kind}, "required": ["type"]}
        super().__init__(**shaped(kwargs, {"type": "boolean"}, wanted))

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Any:
        if isinstance(value, bool):
            return value
        if not isinstance(value, dict) or value.get("type") not in _THINKING:
            kinds = ", ".join(_THINKING)
            raise ValidationError(f"Got {shown(value)}; must be true, false, or an object with a type: {kinds}.")
        if too_deep(value) or len(orjson.dumps(value)) > MAX_VARIABLE_BYTES:
            raise ValidationError(f"Is too large: at most {MAX_VARIABLE_BYTES} bytes of JSON.")
        return value


class ReasoningSchema(Schema):
    """The fields of a chat that say how much the model is to think."""

    reasoning_effort = Text(
        allow_none=True,
        load_default=None,
        validate=validate.Length(1, 32, error="Has the wrong length; must be 1 to 32 characters."),
    )
    enable_thinking = Boolean(allow_none=True, load_default=None)
    thinking = Thinking(allow_none=True, load_default=None)
    chat_template_kwargs = TemplateVariables(allow_none=True, load_default=None)
