"""Schemas of what another does not allow: alternatives that leave no valid value, if not always all of them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from gateway.grammars import regex
from gateway.grammars.fuel import Refused
from gateway.grammars.json_schema.flat import TYPES, type_of
from gateway.grammars.patterns import matching

#: A keyword of ours: a regular language of texts.
TEXTS = "\x00texts"
_OPPOSITE = {
    "minimum": ("number", "exclusiveMaximum", 0),
    "maximum": ("number", "exclusiveMinimum", 0),
    "exclusiveMinimum": ("number", "maximum", 0),
    "exclusiveMaximum": ("number", "minimum", 0),
    "minLength": ("string", "maxLength", -1),
    "maxLength": ("string", "minLength", 1),
    "minItems": ("array", "maxItems", -1),
    "maxItems": ("array", "minItems", 1),
}
#: Keywords that limit nothing by themselves.
_SILENT = frozenset(
    {
        *("title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "$schema", "$id"),
        *("$comment", "$defs", "definitions", "$anchor", "then", "else", "nullable", "example"),
    }
)


def negated(schema: Any, resolve: Callable[[Any], Any], depth: int = 0) -> list[dict[str, Any]]:
    """Schemas; what is valid by one of them is not valid by `schema`. Raises: Refused."""
    if schema is False:
        return [{}]
    if schema is True:
        return []
    if not isinstance(schema, dict):
        raise Refused(f"Got {schema!r:.40}; must be a schema.", keyword="not")
    if depth > 16:
        raise Refused("Is nested too deeply.", keyword="not")
    found: list[dict[str, Any]] = []
    for keyword, value in schema.items():
        if keyword in _SILENT or keyword.startswith("x-"):
            continue
        found += _one(keyword, value, resolve, depth)
    return found


def _one(keyword: str, value: Any, resolve: Callable[[Any], Any], depth: int) -> list[dict[str, Any]]:
    if keyword == "type":
        return [_others(*(value if isinstance(value, list) else [value]))]
    if keyword in ("const", "enum"):
        return _unlike([value] if keyword == "const" else list(value))
    if keyword == "required":
        return [_others("object"), *({"type": "object", "properties": {name: False}} for name in value)]
    if keyword == "properties" and isinstance(value, dict):
        return [
            {"type": "object", "required": [name], "properties": {name: {"not": each}}} for name, each in value.items()
        ]
    if keyword == "pattern":
        texts = regex.negation(matching(value, wide=True))
        return [{"type": "string", TEXTS: texts}, _others("string")]
    if keyword in _OPPOSITE and isinstance(value, int | float) and not isinstance(value, bool):
        kind, opposite, more = _OPPOSITE[keyword]
        other = [{"type": kind, opposite: value + more}] if value + more >= 0 or kind == "number" else []
        return [*other, _others(kind)]
    if keyword == "not":
        return [value] if isinstance(value, dict) else [{}] if value else []
    if keyword == "allOf":
        return [each for part in value for each in negated(part, resolve, depth + 1)]
    if keyword == "anyOf":
        return [{"allOf": [{"not": part} for part in value]}]
    if keyword == "$ref":
        return negated(resolve(value), resolve, depth + 1)
    raise Refused(f"What is not valid by {keyword} can't be done.", keyword="not")


def _others(*types: str) -> dict[str, Any]:
    without = {"integer", "number"} if {"integer", "number"} & set(types) else set()
    return {"type": sorted(TYPES - set(types) - without)}


def _unlike(values: list[Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [_others(*(type_of(value) for value in values))]
    texts = [value for value in values if isinstance(value, str)]
    if texts:
        found.append({"type": "string", TEXTS: regex.negation(regex.alt(*map(regex.literal, texts)))})
    flags = [flag for flag in (True, False) if not any(value is flag for value in values)]
    if len(flags) == 1:
        found.append({"enum": flags})
    whole = sorted({int(value) for value in values if type_of(value) == "integer"})
    if whole:
        edges = [None, *whole, None]
        for low, high in pairwise(edges):
            below = {} if high is None else {"exclusiveMaximum": high}
            above = {} if low is None else {"exclusiveMinimum": low}
            found.append({"type": "integer", **below, **above})
    return found
