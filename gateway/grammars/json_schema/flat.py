"""A schema without applicators in place: what all schemas that a value must be valid by say together."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from gateway.grammars.regex import Regex

#: `number` beside `integer` are numbers that need not be whole.
TYPES = frozenset({"null", "boolean", "integer", "number", "string", "array", "object"})


class Node(NamedTuple):
    """A schema as it was given, and where."""

    schema: Any
    path: tuple[str | int, ...]


#: Schemas by all of which a value must be valid.
Conj = tuple[Node, ...]


@dataclass(frozen=True)
class Members:
    """What one schema says of an object's members. None: nothing."""

    properties: dict[str, Conj]
    patterns: list[tuple[str, Conj]]
    additional: Conj | None
    path: tuple[str | int, ...] = ()


@dataclass(frozen=True)
class Items:
    """What one schema says of an array's items. None: nothing."""

    prefix: list[Conj]
    others: Conj | None


@dataclass(frozen=True)
class Flat:
    """See the module. Lists are conjunctions."""

    types: frozenset[str] = TYPES
    #: Values as given, if only some are allowed.
    enum: list[Any] | None = None
    #: Keywords of numbers and texts, with the strictest value.
    limits: dict[str, Any] = field(default_factory=dict)
    multiple_of: list[Any] = field(default_factory=list)
    pattern: list[str] = field(default_factory=list)
    format: list[str] = field(default_factory=list)
    texts: list[Regex] = field(default_factory=list)
    members: list[Members] = field(default_factory=list)
    required: list[str] = field(default_factory=list)
    names: list[Conj] = field(default_factory=list)
    items: list[Items] = field(default_factory=list)
    #: What some items must be valid by, and how many.
    contains: list[tuple[Conj, int]] = field(default_factory=list)
    unique: bool = False
    path: tuple[str | int, ...] = ()

    @property
    def strings(self) -> dict[str, Any]:
        """What is said of texts."""
        return {**self.limits, "pattern": self.pattern, "format": self.format, "texts": self.texts}

    def is_only_types(self) -> bool:
        """Whether it says nothing but types and values."""
        return replace(self, types=TYPES, enum=None, path=()) == Flat()


#: The keywords of which the greater value is stricter, and those of which the less is.
LEAST = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
MOST = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")


def meet(one: Flat, other: Flat) -> Flat:
    """What both say."""
    limits = dict(one.limits)
    for keyword, value in other.limits.items():
        known = limits.get(keyword, value)
        limits[keyword] = max(known, value) if keyword in LEAST else min(known, value)
    return Flat(
        types=one.types & other.types,
        enum=_common(one.enum, other.enum),
        limits=limits,
        multiple_of=_union(one.multiple_of, other.multiple_of),
        pattern=_union(one.pattern, other.pattern),
        format=_union(one.format, other.format),
        texts=_union(one.texts, other.texts),
        members=[*one.members, *other.members],
        required=_union(one.required, other.required),
        names=[*one.names, *other.names],
        items=[*one.items, *other.items],
        contains=[*one.contains, *other.contains],
        unique=one.unique or other.unique,
        path=one.path or other.path,
    )


def same(one: Any, other: Any) -> bool:
    """Whether two JSON values are equal; 1 is not true."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def type_of(value: Any) -> str:
    """The type of a JSON value; whole numbers are integers."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return "integer"
    kinds = {float: "number", str: "string", list: "array", dict: "object"}
    return kinds[type(value)]


def distinct(values: Sequence[Any]) -> list[Any]:
    """Values without those that come again."""
    found: dict[str, Any] = {}
    for value in values:
        found.setdefault(json.dumps(value, sort_keys=True), value)
    return list(found.values())


def _common(one: list[Any] | None, other: list[Any] | None) -> list[Any] | None:
    if one is None or other is None:
        return other if one is None else one
    return [value for value in one if any(same(value, each) for each in other)]


def _union(one: list[Any], other: list[Any]) -> list[Any]:
    return [*one, *(each for each in other if each not in one)]
