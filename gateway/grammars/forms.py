"""What a client wants its answer to look like, read from the request, and the grammar of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson

from gateway.errors import InvalidRequest
from gateway.grammars import regex
from gateway.grammars.derive import Derivatives
from gateway.grammars.fuel import Fuel, Refused
from gateway.grammars.grammar import Grammar, of_regex
from gateway.grammars.json_schema import json_value
from gateway.grammars.notations import read_grammar
from gateway.grammars.patterns import matching
from gateway.grammars.trial import check

#: Forms whose grammars are kept, those of arguments of tools among them: applications send the same again and again.
_KEPT = 640
#: Steps in which a regex must be found to match something.
_REGEX_STEPS = 128_000


@dataclass(frozen=True)
class Form:
    """What an answer must look like."""

    #: `json` (a schema), `regex`, `choice` (a list of texts) or `grammar` (a text).
    kind: str
    value: Any
    #: The field of the request that asks for it.
    field: str


def form_of(request: Mapping[str, Any]) -> Form | None:
    """The form that a request asks for; None if its answer is free."""
    wanted = request.get("structured_outputs") or {}
    for kind, value in wanted.items():
        field = f"structured_outputs.{kind}"
        return Form("json", {"type": "object"}, field) if kind == "json_object" else Form(kind, value, field)
    given = request.get("response_format") or {}
    if given.get("type") == "json_schema":
        schema = given["json_schema"].get("schema")
        return Form("json", {} if schema is None else schema, "response_format.json_schema.schema")
    if given.get("type") == "json_object":
        schema = given.get("schema")
        return Form("json", {"type": "object"} if schema is None else schema, "response_format.schema")
    return None


def grammar_of(form: Form) -> Grammar:
    """The grammar of a form, which an engine will take.

    Raises:
        InvalidRequest: naming the field, the place in it, the keyword that can't be done and what is allowed.
    """
    try:
        return _grammar(form.kind, orjson.dumps(form.value, option=orjson.OPT_PASSTHROUGH_SUBCLASS))
    except (Refused, TypeError) as error:
        raise InvalidRequest.of({form.field: [str(error)]}) from error


def require_form(request: Mapping[str, Any]) -> None:
    """Raises: InvalidRequest if the request asks for a form that can't be done."""
    form = form_of(request)
    if form:
        grammar_of(form)


@lru_cache(maxsize=_KEPT)
def _grammar(kind: str, value: bytes) -> Grammar:
    """The value is JSON, so that equal forms are found again."""
    grammar = _MADE[kind](orjson.loads(value))
    check(grammar)
    return grammar


def _choice(texts: list[str]) -> Grammar:
    return of_regex(regex.alt(*map(regex.literal, texts)))


def _regex(pattern: str) -> Grammar:
    found = of_regex(matching(pattern, whole=True))
    if found.regular is None or Derivatives(Fuel(_REGEX_STEPS, "The regex")).is_empty(found.regular):
        raise Refused("No text matches it.")
    return found


_MADE: dict[str, Callable[[Any], Grammar]] = {
    "json": json_value,
    "choice": _choice,
    "regex": _regex,
    "grammar": read_grammar,
}
