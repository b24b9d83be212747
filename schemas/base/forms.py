"""What an answer must look like: OpenAI's `response_format`, and vLLM's `structured_outputs` with its older names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson
from marshmallow import Schema, ValidationError, fields

from schemas.base.fields import as_text, shaped, shown, too_deep

#: Texts to choose from, and characters of a regex or a grammar.
MAX_CHOICES_OF_TEXT, MAX_PATTERN_LENGTH = 4_096, 65_536
#: What vLLM's clients ask for, with its older names. One of them may be given.
_KINDS = {"json": "guided_json", "regex": "guided_regex", "choice": "guided_choice", "grammar": "guided_grammar"}
_TYPES = ("text", "json_object", "json_schema")
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
#: What vLLM's clients say of how it is to be done, which is our own concern.
_IGNORED = ("guided_decoding_backend", "guided_whitespace_pattern")


class ResponseFormat(fields.Field[dict[str, Any] | None]):
    """OpenAI's `response_format`. Loads to None for plain text."""

    def __init__(self, **kwargs: Any) -> None:
        schema = {"type": "object", "additionalProperties": True}
        named = {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "description": {"type": "string"},
                "schema": schema,
                "strict": {"type": "boolean"},
            },
            "required": ["name"],
        }
        shape = {
            "type": "object",
            "properties": {"type": {"type": "string", "enum": list(_TYPES)}, "json_schema": named, "schema": schema},
            "required": ["type"],
        }
        super().__init__(**shaped(kwargs, shape))

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> dict[str, Any] | None:
        if not isinstance(value, dict):
            raise ValidationError(f"Got {shown(value)}; must be an object with a type: {', '.join(_TYPES)}.")
        kind = value.get("type")
        if kind not in _TYPES:
            raise ValidationError({"type": [f"Got {shown(kind)}; allowed: {', '.join(_TYPES)}."]})
        own = {"text": (), "json_object": ("schema",), "json_schema": ("json_schema",)}[kind]
        _only(value, ("type", *own))
        if kind == "json_schema":
            _json_schema(value.get("json_schema"))
        elif value.get("schema") is not None:
            _schema(value["schema"], "schema")
        return None if kind == "text" else value


class StructuredOutputs(fields.Field[dict[str, Any] | None]):
    """vLLM's `structured_outputs`: one of json, regex, choice, grammar, json_object."""

    def __init__(self, **kwargs: Any) -> None:
        shape = {
            "type": "object",
            "properties": {
                "json": {"type": "object", "additionalProperties": True},
                "regex": {"type": "string"},
                "choice": {"type": "array", "items": {"type": "string"}, "minItems": 1},
                "grammar": {"type": "string"},
                "json_object": {"type": "boolean"},
            },
        }
        super().__init__(**shaped(kwargs, shape))

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> dict[str, Any] | None:
        if not isinstance(value, dict):
            raise ValidationError(f"Got {shown(value)}; must be an object with one of: {', '.join(_KINDS)}.")
        _only(value, (*_KINDS, "json_object", "whitespace_pattern", "disable_fallback", "disable_any_whitespace"))
        given = {name: value[name] for name in (*_KINDS, "json_object") if value.get(name) not in (None, False)}
        if len(given) > 1:
            raise ValidationError(f"Got {' and '.join(given)}; give one of them.")
        return {name: constraint(name, each) for name, each in given.items()} or None


class Constraint(fields.Field[Any]):
    """One of vLLM's older fields."""

    def __init__(self, kind: str, **kwargs: Any) -> None:
        super().__init__(**{"allow_none": True, "load_default": None, **kwargs})
        self.kind = kind

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Any:
        return constraint(self.kind, value)


class FormSchema(Schema):
    """The fields of a request that say what its answer must look like."""

    response_format = ResponseFormat(allow_none=True, load_default=None)
    structured_outputs = StructuredOutputs(allow_none=True, load_default=None)
    guided_json = Constraint("json", metadata={"description": "An older name of structured_outputs.json"})
    guided_regex = Constraint("regex", metadata={"type": "string", "description": "structured_outputs.regex"})
    guided_choice = Constraint(
        "choice",
        metadata={"type": "array", "items": {"type": "string"}, "description": "structured_outputs.choice"},
    )
    guided_grammar = Constraint("grammar", metadata={"type": "string", "description": "structured_outputs.grammar"})
    guided_decoding_backend = fields.Raw(allow_none=True, metadata={"description": "Has no effect"})
    guided_whitespace_pattern = fields.Raw(allow_none=True, metadata={"description": "Has no effect"})


def with_form(data: dict[str, Any]) -> dict[str, Any]:
    """The request with what was asked for under the newer names. Raises: ValidationError if it asks for two forms."""
    older = {kind: data[name] for kind, name in _KINDS.items() if data.get(name) is not None}
    newer = {name: data[name] for name in ("response_format", "structured_outputs") if data.get(name)}
    named = [*newer, *(_KINDS[kind] for kind in older)]
    if len(named) > 1:
        raise ValidationError(f"Differs from {named[0]}; give one of them.", named[1])
    kept = {name: value for name, value in data.items() if name not in (*_KINDS.values(), *_IGNORED)}
    return {**kept, "structured_outputs": older or data.get("structured_outputs")}


def constraint(kind: str, value: Any) -> Any:
    """The value of one kind, in its shape and bounds. Raises: ValidationError."""
    if kind == "json":
        if isinstance(value, str):
            try:
                value = orjson.loads(as_text(value))
            except orjson.JSONDecodeError as error:
                raise ValidationError(f"Is not valid JSON: {error}.") from error
        _schema(value, "")
    elif kind == "choice":
        if not isinstance(value, list) or not 1 <= len(value) <= MAX_CHOICES_OF_TEXT:
            raise ValidationError(f"Got {shown(value)}; must be a list of 1 to {MAX_CHOICES_OF_TEXT} texts.")
        for each in value:
            as_text(each)
    elif kind == "json_object":
        if value is not True:
            raise ValidationError(f"Got {shown(value)}; must be true or false.")
    elif not 1 <= len(as_text(value)) <= MAX_PATTERN_LENGTH:
        raise ValidationError(f"Has {len(value)} characters; must have 1 to {MAX_PATTERN_LENGTH}.")
    return value


def _json_schema(named: Any) -> None:
    if not isinstance(named, dict):
        raise ValidationError({"json_schema": [f"Got {shown(named)}; must be an object with name and schema."]})
    try:
        _only(named, ("name", "description", "schema", "strict"))
        name = named.get("name")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ValidationError({"name": [f"Got {shown(name)}; must be 1 to 64 of a-z, A-Z, 0-9, - and _."]})
        if named.get("description") is not None:
            as_text(named["description"])
        if not isinstance(named.get("strict"), bool | None):
            raise ValidationError({"strict": [f"Got {shown(named['strict'])}; must be true or false."]})
        if named.get("schema") is not None:
            _schema(named["schema"], "schema")
    except ValidationError as error:
        raise ValidationError({"json_schema": error.messages}) from error


def _schema(schema: Any, name: str) -> None:
    text = ""
    if not isinstance(schema, dict | bool):
        text = f"Got {shown(schema)}; must be a JSON schema, which is an object."
    elif too_deep(schema):
        text = "Is nested too deeply."
    if text:
        raise ValidationError({name: [text]} if name else text)


def _only(value: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for name in value:
        if name not in known:
            raise ValidationError({str(name)[:64]: [f"Unknown field. Allowed: {', '.join(sorted(known))}."]})
