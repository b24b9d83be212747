"""A JSON schema as a grammar of the JSON texts that it allows."""

from __future__ import annotations

from typing import Any

from gateway.grammars.fuel import Refused
from gateway.grammars.grammar import Builder, Grammar, Part
from gateway.grammars.json_schema import json_texts as texts
from gateway.grammars.regex import alt, literal


def json_value(schema: Any) -> Grammar:
    """The JSON texts that are valid by a schema. Raises: Refused."""
    build = Builder()
    value, obj, array, member, more, item = (build.new() for _ in range(6))
    for each in (
        [texts.STRING],
        [texts.NUMBER],
        [alt(*map(literal, ("true", "false", "null")))],
        [Part(obj)],
        [Part(array)],
    ):
        build.add(value, each)
    build.add(member, [texts.STRING, texts.COLON, Part(value)])
    build.add(more, [texts.COMMA, Part(member)])
    build.add(item, [texts.COMMA, Part(value)])
    build.add(obj, [texts.EMPTY_OBJECT])
    build.add(obj, [texts.OPEN_OBJECT, Part(member), Part(more, 0, None), texts.CLOSE_OBJECT])
    build.add(array, [texts.EMPTY_ARRAY])
    build.add(array, [texts.OPEN_ARRAY, Part(value), Part(item, 0, None), texts.CLOSE_ARRAY])
    if schema is True or schema == {}:
        start = value
    elif schema == {"type": "object"}:
        start = obj
    else:
        raise Refused("is not done yet", place="#", keyword=next(iter(schema), "") if schema else "false")
    found = build.grammar(start)
    assert found is not None
    return found
