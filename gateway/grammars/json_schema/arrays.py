"""Arrays: items in front that have schemas of their own, then others."""

from __future__ import annotations

from gateway.grammars.fuel import Refused
from gateway.grammars.grammar import Part, Symbol
from gateway.grammars.json_schema import json_texts as texts
from gateway.grammars.json_schema.flat import Conj, Flat, distinct
from gateway.grammars.json_schema.strings import counts
from gateway.grammars.json_schema.target import Target

#: Values that may come once each in any order.
_MAX_UNIQUE = 8


def add_array(to: Target, rule: int, flat: Flat) -> None:
    """The arrays that a schema allows, as alternatives of a rule. Raises: Refused."""
    least, most = counts(flat.limits, "minItems", "maxItems")
    if flat.unique and (most is None or most > 1):
        _unique(to, rule, flat, least, most)
        return
    if flat.contains:
        _containing(to, rule, flat, least, most)
        return
    longest = max((len(each.prefix) for each in flat.items), default=0)
    prefix = [to.value(_child(flat, index)) for index in range(longest)]
    others = _beyond(flat, longest)
    # Items of which nobody says anything come only if there must be some.
    silent = longest > 0 and all(each.others is None for each in flat.items)
    if silent and least <= longest:
        most = longest if most is None else min(most, longest)
    item = to.value(others)
    if least == 0:
        to.build.add(rule, [texts.EMPTY_ARRAY])
    if most != 0:
        to.build.add(rule, [texts.OPEN_ARRAY, *_items(to, prefix, item, least, most), texts.CLOSE_ARRAY])


def _items(to: Target, prefix: list[Symbol], item: Symbol, least: int, most: int | None) -> list[Symbol]:
    """At least one item."""
    build = to.build
    shown = prefix if most is None else prefix[:most]
    more = build.new([texts.COMMA, item])
    left = None if most is None else most - max(1, len(shown))
    needed = max(0, least - max(1, len(shown)))
    tail: list[Symbol] = [] if left == 0 else [Part(more, needed, left)]
    for index in range(len(shown) - 1, 0, -1):
        to.fuel.burn(1)
        rest = build.new([texts.COMMA, shown[index], *tail])
        tail = [Part(rest, 0 if least <= index else 1, 1)]
    return [shown[0] if shown else item, *tail]


def _child(flat: Flat, index: int) -> Conj:
    found: list[Conj] = [each.prefix[index] if index < len(each.prefix) else each.others or () for each in flat.items]
    return tuple(node for conj in found for node in conj)


def _beyond(flat: Flat, index: int) -> Conj:
    return _child(flat, index)


def _containing(to: Target, rule: int, flat: Flat, least: int, most: int | None) -> None:
    if len(flat.contains) > 1 or any(each.prefix for each in flat.items):
        raise Refused("Can be done once, and without prefixItems.", keyword="contains")
    wanted, times = flat.contains[0]
    if most is not None and times > most:
        return
    item, found = to.value(_child(flat, 0)), to.value((*_child(flat, 0), *wanted))
    build = to.build
    if least > times or most is not None:
        more, again = build.new([texts.COMMA, item]), build.new([texts.COMMA, found])
        left = None if most is None else most - times
        tail: list[Symbol] = [] if left == 0 else [Part(more, max(0, least - times), left)]
        same: list[Symbol] = [Part(again, times - 1, times - 1)] if times > 1 else []
        build.add(rule, [texts.OPEN_ARRAY, found, *same, *tail, texts.CLOSE_ARRAY])
        return
    before, after = build.new([item, texts.COMMA]), build.new([texts.COMMA, item])
    one = build.new([Part(before, 0, None), found])
    more = build.new([texts.COMMA, Part(one)])
    again_ = [Part(more, times - 1, times - 1)] if times > 1 else []
    build.add(rule, [texts.OPEN_ARRAY, Part(one), *again_, Part(after, 0, None), texts.CLOSE_ARRAY])


def _unique(to: Target, rule: int, flat: Flat, least: int, most: int | None) -> None:
    """Items that must differ: possible where there are few values."""
    if flat.contains or any(each.prefix for each in flat.items):
        raise Refused("Can't be done beside contains or prefixItems.", keyword="uniqueItems")
    flats = to.reader.alternatives(_child(flat, 0))
    values: list[object] = []
    for each in flats:
        if each.enum is None:
            if each.types <= {"null", "boolean"}:
                values += [None] if "null" in each.types else []
                values += [True, False] if "boolean" in each.types else []
                continue
            raise Refused(
                f"Items can be kept apart if they are an enum of at most {_MAX_UNIQUE} values, or at most one.",
                keyword="uniqueItems",
            )
        values += to.fitting(each)
    values = distinct(values)
    if len(values) > _MAX_UNIQUE:
        text = f"Items can be kept apart if they have at most {_MAX_UNIQUE} values; these have {len(values)}."
        raise Refused(text, keyword="uniqueItems")
    symbols = [texts.written(value) for value in values]
    if least > len(values):
        return
    build, top = to.build, min(len(values), most if most is not None else len(values))
    rules = {used: build.new() for used in range(1 << len(values)) if used.bit_count() <= top}
    for used, name in rules.items():
        to.fuel.burn(1)
        if used.bit_count() >= max(1, least):
            build.add(name, [])
        for index, symbol in enumerate(symbols):
            after = used | 1 << index
            if after != used and after in rules:
                build.add(name, [*([texts.COMMA] if used else []), symbol, Part(rules[after])])
    if least == 0:
        build.add(rule, [texts.EMPTY_ARRAY])
    build.add(rule, [texts.OPEN_ARRAY, Part(rules[0]), texts.CLOSE_ARRAY])
