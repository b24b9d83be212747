"""Schemas as they are given, read as alternatives without applicators in place.

References are followed, `allOf` is joined, and each choice of `anyOf`, `oneOf`, `if`, `not` and dependencies is made.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

from gateway.grammars.fuel import Fuel, Refused
from gateway.grammars.json_schema.flat import LEAST, MOST, TYPES, Conj, Flat, Items, Members, Node, distinct, meet
from gateway.grammars.json_schema.negation import TEXTS, negated
from gateway.grammars.json_schema.numbers import decimal
from gateway.grammars.json_schema.strings import natural

#: Alternatives of one schema.
MAX_ALTERNATIVES = 512
#: Keywords that limit values, and that can't be done.
_BEYOND = ("$dynamicRef", "$recursiveRef", "maxContains", "unevaluatedItems")
_NUMBERS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")


class Reader:
    """Reads the schemas of one document."""

    def __init__(self, root: Any, fuel: Fuel) -> None:
        self.root, self.fuel = root, fuel
        self._known: dict[int, list[Flat]] = {}
        self._open: set[int] = set()
        #: Schemas that were made here, which must live as long as their ids are used.
        self._made: list[Any] = []
        self.disjoint: Any = None

    def alternatives(self, conj: Conj) -> list[Flat]:
        """All ways to be valid by each of these. Raises: Refused, TooLarge."""
        found = [Flat()]
        for node in conj:
            found = self._product(found, self._of(node), node.path)
        return found

    def made(self, schema: Any, path: tuple[str | int, ...]) -> Node:
        """A schema that was not given, but follows."""
        self._made.append(schema)
        return Node(schema, path)

    def _of(self, node: Node) -> list[Flat]:
        schema, path = node
        if schema is True:
            return [Flat()]
        if schema is False:
            return []
        if not isinstance(schema, dict):
            raise Refused(f"Got {schema!r:.40}; must be a schema: an object, true or false.").at(path)
        known = self._known.get(id(schema))
        if known is not None:
            return known
        if id(schema) in self._open:
            raise Refused("Refers to itself without anything between.", keyword="$ref").at(path)
        self._open.add(id(schema))
        try:
            found = self._read(schema, path)
        except Refused as error:
            raise error.at(path) from None
        finally:
            self._open.discard(id(schema))
        self._known[id(schema)] = found
        return found

    def _read(self, schema: dict[str, Any], path: tuple[str | int, ...]) -> list[Flat]:
        self.fuel.burn(2 + len(schema))
        for keyword in _BEYOND:
            if keyword in schema:
                raise Refused("Can't be done.", keyword=keyword)
        found = [self._own(schema, path)]
        for choice in self._choices(schema, path):
            ways = [flat for conj in choice for flat in self.alternatives(conj)]
            found = self._product(found, ways, path)
        if "unevaluatedProperties" in schema:
            others = (Node(schema["unevaluatedProperties"], (*path, "unevaluatedProperties")),)
            found = [_evaluated(flat, others) for flat in found]
        return found

    def _product(self, some: list[Flat], others: list[Flat], path: tuple[str | int, ...]) -> list[Flat]:
        if len(some) * len(others) > MAX_ALTERNATIVES:
            text = f"Makes {len(some) * len(others)} alternatives; at most {MAX_ALTERNATIVES} are taken."
            raise Refused(text).at(path)
        self.fuel.burn(2 * len(some) * len(others))
        met = (meet(one, other) for one in some for other in others)
        return [flat for flat in met if flat.types and flat.enum != []]

    def _choices(self, schema: dict[str, Any], path: tuple[str | int, ...]) -> Iterator[list[Conj]]:
        """Lists of alternatives; a value must be valid by one of each list."""
        if "$ref" in schema:
            yield [(self.resolved(schema["$ref"]),)]
        for index, each in enumerate(_list(schema, "allOf")):
            yield [(Node(each, (*path, "allOf", index)),)]
        for keyword in ("anyOf", "oneOf"):
            if keyword in schema:
                ways: list[Conj] = [(Node(each, (*path, keyword, i)),) for i, each in enumerate(_list(schema, keyword))]
                if keyword == "oneOf" and len(ways) > 1:
                    self._require_disjoint(ways, schema, path)
                yield ways
        if "not" in schema:
            yield self._not(schema["not"], (*path, "not"))
        if "if" in schema and ("then" in schema or "else" in schema):
            condition = Node(schema["if"], (*path, "if"))
            then = Node(schema.get("then", True), (*path, "then"))
            otherwise = Node(schema.get("else", True), (*path, "else"))
            yield [(condition, then), *((*conj, otherwise) for conj in self._not(schema["if"], (*path, "if")))]
        for keyword in ("dependentRequired", "dependentSchemas", "dependencies"):
            for name, needs in _dict(schema, keyword).items():
                there = self.made({"required": needs} if isinstance(needs, list) else needs, (*path, keyword, name))
                absent = self.made({"properties": {name: False}}, (*path, keyword))
                yield [
                    (absent,),
                    (self.made({"required": [name], "type": "object"}, path), there),
                ]

    def _not(self, schema: Any, path: tuple[str | int, ...]) -> list[Conj]:
        found = negated(schema, lambda ref: self.resolved(ref).schema)
        return [(self.made(each, path),) for each in found]

    def _require_disjoint(self, ways: list[Conj], schema: dict[str, Any], path: tuple[str | int, ...]) -> None:
        flats = [self.alternatives(conj) for conj in ways]
        base = self._own({name: schema[name] for name in schema if name in ("type", "enum", "const")}, path)
        flats = [self._product(each, [base], path) for each in flats]
        for i, one in enumerate(flats):
            for k in range(i + 1, len(flats)):
                self.fuel.burn(3 + len(one) * len(flats[k]))
                if not all(self.disjoint(f, g) for f in one for g in flats[k]):
                    text = f"A value may be valid by both {i} and {k}, and that can't be ruled out; use anyOf, or a "
                    raise Refused(f"{text}required property with another const in each.", keyword="oneOf")

    def _own(self, schema: dict[str, Any], path: tuple[str | int, ...]) -> Flat:
        """What a schema says beside its applicators in place."""
        flat = Flat(types=_types(schema.get("type")), enum=_enum(schema), limits=_limits(schema), path=path)
        for keyword in ("pattern", "format"):
            if keyword in schema and not isinstance(schema[keyword], str):
                raise Refused(f"Got {schema[keyword]!r:.40}; must be text.", keyword=keyword)
        if "multipleOf" in schema:
            decimal(schema["multipleOf"], "multipleOf")
        required = schema.get("required", [])
        if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
            raise Refused(f"Got {required!r:.40}; must be a list of names.", keyword="required")
        return replace(
            flat,
            multiple_of=[schema["multipleOf"]] if "multipleOf" in schema else [],
            pattern=[schema["pattern"]] if "pattern" in schema else [],
            format=[schema["format"]] if "format" in schema else [],
            texts=[schema[TEXTS]] if TEXTS in schema else [],
            required=list(dict.fromkeys(required)),
            members=_members(schema, path),
            names=[(Node(schema["propertyNames"], (*path, "propertyNames")),)] if "propertyNames" in schema else [],
            items=_items(schema, path),
            contains=_contains(schema, path),
            unique=schema.get("uniqueItems") is True,
        )

    def resolved(self, reference: Any) -> Node:
        """What a reference refers to. Raises: Refused."""
        if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
            text = f"Got {reference!r:.80}; must refer into this schema: # or #/$defs/NAME."
            raise Refused(text, keyword="$ref")
        found, path = self.root, tuple(unquote(each) for each in reference[2:].split("/")) if reference != "#" else ()
        steps: list[str | int] = []
        for step in path:
            name = step.replace("~1", "/").replace("~0", "~")
            if isinstance(found, dict) and name in found:
                found = found[name]
            elif isinstance(found, list) and re.fullmatch(r"[0-9]{1,6}", name) and int(name) < len(found):
                found = found[int(name)]
            else:
                raise Refused(f"{reference!r:.80} is not there.", keyword="$ref")
            steps.append(name)
        return Node(found, tuple(steps))


def _types(given: Any) -> frozenset[str]:
    if given is None:
        return TYPES
    names = given if isinstance(given, list) else [given]
    for name in names:
        if not isinstance(name, str) or name not in TYPES:
            raise Refused(f"Got {name!r:.40}; allowed: {', '.join(sorted(TYPES))}.", keyword="type")
    return frozenset(names) | ({"integer"} if "number" in names else set())


def _enum(schema: Mapping[str, Any]) -> list[Any] | None:
    values = [schema["const"]] if "const" in schema else None
    if "enum" not in schema:
        return values
    given = schema["enum"]
    if not isinstance(given, list):
        raise Refused(f"Got {given!r:.40}; must be a list of values.", keyword="enum")
    return distinct(given if values is None else [value for value in values if value in given])


def _limits(schema: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for keyword in (*LEAST, *MOST):
        value = schema.get(keyword)
        if value is None:
            continue
        if keyword in _NUMBERS and not (keyword.startswith("exclusive") and isinstance(value, bool)):
            decimal(value, keyword)
            found[keyword] = value
        elif keyword not in _NUMBERS:
            found[keyword] = natural(value, keyword)
    # Draft 4 has booleans beside the bounds.
    for keyword, plain in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if schema.get(keyword) is True and plain in found:
            found[keyword] = found.pop(plain)
    return found


def _members(schema: Mapping[str, Any], path: tuple[str | int, ...]) -> list[Members]:
    names = ("properties", "patternProperties", "additionalProperties")
    if not any(name in schema for name in names):
        return []
    properties: dict[str, Conj] = {
        name: (Node(each, (*path, "properties", name)),) for name, each in _dict(schema, "properties").items()
    }
    patterns: list[tuple[str, Conj]] = [
        (pattern, (Node(each, (*path, "patternProperties", pattern)),))
        for pattern, each in _dict(schema, "patternProperties").items()
    ]
    additional = None
    if "additionalProperties" in schema:
        additional = (Node(schema["additionalProperties"], (*path, "additionalProperties")),)
    return [Members(properties, patterns, additional, path)]


def _items(schema: Mapping[str, Any], path: tuple[str | int, ...]) -> list[Items]:
    first, others = "prefixItems", "items"
    if isinstance(schema.get("items"), list):
        first, others = "items", "additionalItems"
    if first not in schema and others not in schema:
        return []
    prefix: list[Conj] = [(Node(each, (*path, first, i)),) for i, each in enumerate(_list(schema, first))]
    return [Items(prefix, (Node(schema[others], (*path, others)),) if others in schema else None)]


def _contains(schema: Mapping[str, Any], path: tuple[str | int, ...]) -> list[tuple[Conj, int]]:
    if "contains" not in schema:
        return []
    least = natural(schema.get("minContains", 1), "minContains")
    return [((Node(schema["contains"], (*path, "contains")),), least)] if least else []


def _evaluated(flat: Flat, others: Conj) -> Flat:
    """With what is said of members that nothing else has said anything of."""
    if any(each.additional is not None for each in flat.members):
        return flat
    properties: dict[str, Conj] = {name: () for each in flat.members for name in each.properties}
    patterns: list[tuple[str, Conj]] = [(pattern, ()) for each in flat.members for pattern, _ in each.patterns]
    return replace(flat, members=[*flat.members, Members(properties, patterns, others)])


def _dict(schema: Mapping[str, Any], keyword: str) -> dict[str, Any]:
    found = schema.get(keyword, {})
    if not isinstance(found, dict):
        raise Refused(f"Got {found!r:.40}; must be an object.", keyword=keyword)
    return found


def _list(schema: Mapping[str, Any], keyword: str) -> Sequence[Any]:
    found = schema.get(keyword, [])
    if not isinstance(found, list) or (keyword in schema and not found):
        raise Refused(f"Got {found!r:.40}; must be a list of schemas.", keyword=keyword)
    return found
