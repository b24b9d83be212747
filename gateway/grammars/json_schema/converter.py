"""A JSON schema as a grammar of JSON texts that are valid by it.

The grammar may have fewer texts than the schema allows, but never one that is not valid: what can't be done so is
refused. Members that a schema with `properties` does not name are left out unless it says `additionalProperties`;
numbers have few digits, white space is bounded.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import Any

from gateway.grammars.fuel import Fuel, Refused
from gateway.grammars.grammar import Builder, Grammar, Part, Symbol
from gateway.grammars.json_schema import json_texts as texts
from gateway.grammars.json_schema.apart import apart
from gateway.grammars.json_schema.arrays import add_array
from gateway.grammars.json_schema.flat import Conj, Flat, Node, type_of
from gateway.grammars.json_schema.numbers import bounds_of, integers, numbers
from gateway.grammars.json_schema.objects import add_object
from gateway.grammars.json_schema.reading import Reader
from gateway.grammars.json_schema.strings import string
from gateway.grammars.quotient import accepts
from gateway.grammars.regex import NOTHING, Regex, alt, literal

#: Steps for one schema: some tenths of a second at most.
_FUEL = 60_000
_SCALARS = frozenset({"null", "boolean", "integer", "number", "string"})


def json_value(schema: Any) -> Grammar:
    """The JSON texts that are valid by a schema. Raises: Refused, TooLarge."""
    try:
        return Converter(schema, Fuel(_FUEL, "The schema")).grammar((Node(schema, ()),))
    except RecursionError as error:
        raise Refused("Is nested too deeply.") from error


class Converter:
    """One schema on its way to a grammar."""

    def __init__(self, root: Any, fuel: Fuel, reader: Reader | None = None) -> None:
        self.fuel, self.root = fuel, root
        self.reader = reader or Reader(root, fuel)
        self.reader.disjoint = lambda one, other: apart(self.reader, one, other)
        self.build = Builder()
        self._known: dict[tuple[int, ...], Symbol] = {}
        self._waiting: deque[tuple[int, list[Flat]]] = deque()

    def grammar(self, conj: Conj) -> Grammar:
        """The grammar of values that are valid by each of these. Raises: Refused."""
        return self._finish(self.value(conj))

    def _finish(self, symbol: Symbol) -> Grammar:
        while self._waiting:
            rule, flats = self._waiting.popleft()
            for flat in flats:
                try:
                    self._add(rule, flat)
                except Refused as error:
                    raise error.at(flat.path) from None
        found = self.build.grammar(self.build.new([symbol]))
        if found is None:
            raise Refused("No JSON text can be valid by it.", place="#")
        return found

    def value(self, conj: Conj) -> Symbol:
        """What stands for a value that is valid by each of these. Raises: Refused."""
        conj = tuple(node for node in conj if node.schema is not True)
        key = tuple(sorted({id(node.schema) for node in conj}))
        if key not in self._known:
            self.fuel.burn(2)
            self._known[key] = self._symbol(self.reader.alternatives(conj))
        return self._known[key]

    def _symbol(self, flats: list[Flat]) -> Symbol:
        self.fuel.burn(len(flats))
        if all(flat.types <= _SCALARS or flat.enum is not None for flat in flats):
            return alt(*(self._scalar(flat) for flat in flats))
        rule = self.build.new()
        self._waiting.append((rule, flats))
        return Part(rule)

    def _add(self, rule: int, flat: Flat) -> None:
        scalar = self._scalar(flat)
        if scalar is not NOTHING:
            self.build.add(rule, [scalar])
        if flat.enum is None and "object" in flat.types:
            add_object(self, rule, flat)
        if flat.enum is None and "array" in flat.types:
            add_array(self, rule, flat)

    def _scalar(self, flat: Flat) -> Regex:
        """Values without members and items, or those that are given."""
        try:
            if flat.enum is not None:
                return self._values(flat)
            found = []
            words = [word for kind, word in _WORDS if kind in flat.types]
            if words:
                found.append(alt(*map(literal, words)))
            if "number" in flat.types and "integer" not in flat.types:
                raise Refused("Numbers that are not whole can't be told from others.", keyword="type")
            if "number" in flat.types:
                found.append(numbers(bounds_of(flat.limits), flat.multiple_of))
            elif "integer" in flat.types:
                found.append(integers(bounds_of(flat.limits), flat.multiple_of))
            if "string" in flat.types:
                found.append(string(flat.strings))
            return alt(*found)
        except Refused as error:
            raise error.at(flat.path) from None

    def _values(self, flat: Flat) -> Regex:
        return alt(*(texts.written(value) for value in self.fitting(flat)))

    def fitting(self, flat: Flat) -> list[Any]:
        """The values that a schema gives, and that are valid by what else it says."""
        self.fuel.burn(len(flat.enum or ()))
        fitting = [value for value in flat.enum or () if type_of(value) in flat.types]
        if not flat.is_only_types() and fitting:
            other = Converter(self.root, self.fuel, self.reader)
            rest = replace(flat, enum=None)
            try:
                grammar = other._finish(other._symbol([rest]))
            except Refused as error:
                if "No JSON text" in error.text:
                    return []
                raise
            fitting = [value for value in fitting if accepts(grammar, texts.dumped(value))]
        return fitting


_WORDS = (("null", "null"), ("boolean", "true"), ("boolean", "false"))
