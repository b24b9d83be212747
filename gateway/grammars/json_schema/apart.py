"""Whether no value can be valid by two schemas: shown by types, values, bounds, or a member that tells them apart."""

from __future__ import annotations

from typing import Any

from gateway.grammars.json_schema.flat import Flat, same
from gateway.grammars.json_schema.reading import Reader

_RANGES = (("minLength", "maxLength", "string"), ("minItems", "maxItems", "array"))
#: How deeply members are looked at.
_DEPTH = 4


def apart(reader: Reader, one: Flat, other: Flat, depth: int = _DEPTH) -> bool:
    """True only if it is certain."""
    if one.enum is not None and other.enum is not None:
        return not any(same(value, each) for value in one.enum for each in other.enum)
    common = one.types & other.types
    return all(_apart_as(reader, kind, one, other, depth) for kind in common)


def _apart_as(reader: Reader, kind: str, one: Flat, other: Flat, depth: int) -> bool:
    if kind == "object":
        return depth > 0 and any(
            _tells(reader, name, one, other, depth) for name in dict.fromkeys([*one.required, *other.required])
        )
    if kind in ("integer", "number"):
        return _above(one.limits, other.limits) or _above(other.limits, one.limits)
    for lower, upper, of in _RANGES:
        if of == kind:
            return _longer(one.limits, other.limits, lower, upper) or _longer(other.limits, one.limits, lower, upper)
    return False


def _longer(one: dict[str, Any], other: dict[str, Any], lower: str, upper: str) -> bool:
    return upper in other and bool(one.get(lower, 0) > other[upper])


def _above(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether all numbers of one are above those of the other."""
    lows = [one[name] for name in ("minimum", "exclusiveMinimum") if name in one]
    highs = [other[name] for name in ("maximum", "exclusiveMaximum") if name in other]
    if not lows or not highs:
        return False
    low, high = max(lows), min(highs)
    is_open = one.get("exclusiveMinimum") == low or other.get("exclusiveMaximum") == high
    return bool(low > high or (low == high and is_open))


def _tells(reader: Reader, name: str, one: Flat, other: Flat, depth: int) -> bool:
    """Whether a member that one of them requires can't be the same in both."""
    first, second = (
        [each for members in flat.members for each in members.properties.get(name, ())] for flat in (one, other)
    )
    if name not in one.required or name not in other.required:
        there = other if name in one.required else one
        forbids = any(
            members.additional is not None
            and members.additional[0].schema is False
            and name not in members.properties
            and not members.patterns
            for members in there.members
        )
        return forbids or any(node.schema is False for node in (second if there is other else first))
    if not first or not second:
        return False
    return all(
        apart(reader, f, g, depth - 1)
        for f in reader.alternatives(tuple(first))
        for g in reader.alternatives(tuple(second))
    )
