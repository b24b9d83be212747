"""What a provider can be told of a request, by its protocol: one file each. Knows no SDK, so that any process may ask.

What it can't be told is of two kinds: words that only give a hint (`unsendable`), and those without which the answer
would not be what was asked for. The customer's paths refuse both; below `/v1` hints are left out, and named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.models.entry import Model
from gateway.models.protocols import anthropic, openai

#: Field of a request with those that we do not read ourselves: they are for providers, and never refused.
PASSED_ON = "passed_on"


@dataclass(frozen=True)
class Words:
    """What a protocol has no word for; see there."""

    #: Hints, with an error text each; a dot leads into an object or a list.
    hints: Callable[[Model, Mapping[str, Any]], dict[str, str]]
    #: All else.
    refused: Callable[[Model, Mapping[str, Any]], dict[str, str]]
    #: The fields that are only passed on and that it does not know.
    strange: Callable[[Model, Mapping[str, Any]], list[str]]


_BY_PROTOCOL = {
    "anthropic": Words(anthropic.hints, anthropic.refused, anthropic.strange),
    "openai": Words(openai.hints, openai.refused, openai.strange),
}


def refusals(model: Model, request: Mapping[str, Any]) -> dict[str, list[str]]:
    """The fields that the provider of a model can't be told, with error texts. None for a local model."""
    words = _words(model)
    if words is None:
        return {}
    found = words.hints(model, request) | words.refused(model, request)
    return {name: [text] for name, text in found.items()}


def unsendable(model: Model, request: Mapping[str, Any]) -> list[str]:
    """The fields of a request that its provider would not be told, though it is asked: see `without`."""
    words = _words(model)
    if words is None:
        return []
    return sorted({*words.hints(model, request), *words.strange(model, request)})


def without(request: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """The request without some fields, also of those that are passed on; a dot leads into an object or a list."""
    left: dict[str, Any] = dict(request)
    passed_on = dict(left.get(PASSED_ON) or {})
    for name in names:
        if passed_on.pop(name, None) is None:
            left = _without(left, name.split("."))
    return {**left, PASSED_ON: passed_on} if left.get(PASSED_ON) else left


def _without(value: Any, path: list[str]) -> Any:
    first, *rest = path
    if isinstance(value, Mapping):
        if not rest:
            return {name: inner for name, inner in value.items() if name != first}
        return {**value, first: _without(value[first], rest)} if first in value else value
    if isinstance(value, list) and first.isdecimal() and int(first) < len(value):
        at = int(first)
        return [*value[:at], *([_without(value[at], rest)] if rest else []), *value[at + 1 :]]
    return value


def _words(model: Model) -> Words | None:
    return _BY_PROTOCOL.get(model.via.protocol) if model.via else None
