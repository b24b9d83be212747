"""Objects: members in the order of the schema, each optional one there or not, then members with other names."""

from __future__ import annotations

from gateway.grammars import regex
from gateway.grammars.derive import Derivatives
from gateway.grammars.fuel import Refused
from gateway.grammars.grammar import Part, Symbol, of_regex
from gateway.grammars.json_schema import json_texts as texts
from gateway.grammars.json_schema.flat import Conj, Flat, Members
from gateway.grammars.json_schema.strings import counts, quoted, texts_of
from gateway.grammars.json_schema.target import Target
from gateway.grammars.patterns import matching
from gateway.grammars.quotient import accepts
from gateway.grammars.regex import ANYTHING, Regex, alt, both, literal, negation

#: Rules that count members.
_MAX_COUNTED = 1_024


def add_object(to: Target, rule: int, flat: Flat) -> None:
    """The objects that a schema allows, as alternatives of a rule. Raises: Refused."""
    names = list(dict.fromkeys([*(name for each in flat.members for name in each.properties), *flat.required]))
    to.fuel.burn(len(names))
    allowed = _names(to, flat)
    named = [
        (literal_key(name), to.value(_child(flat, name)), name in flat.required)
        for name in names
        if allowed is None or accepts(of_regex(allowed), name)
    ]
    if sum(needed for *_, needed in named) < len(flat.required):
        return
    other = _others(to, flat, names, allowed)
    least, most = counts(flat.limits, "minProperties", "maxProperties")
    _Members(to, rule, named, other, least, most).write()


def literal_key(name: str) -> Regex:
    """A name as JSON."""
    return texts.written(name)


class _Members:
    """Rules of the members of one object, by how many of the named ones are behind, and how many were written."""

    def __init__(
        self,
        to: Target,
        rule: int,
        named: list[tuple[Regex, Symbol, bool]],
        other: int | None,
        least: int,
        most: int | None,
    ) -> None:
        self.to, self.rule, self.named, self.other, self.least, self.most = to, rule, named, other, least, most
        needed = sum(need for *_, need in named)
        self.counting = least > needed or (most is not None and (most < len(named) or other is not None))
        if least > len(named) + (other is not None):
            raise Refused(
                f"Got {least}; at most {len(named) + (other is not None)} can be made sure of, since names may come "
                "twice. Name the members in properties.",
                keyword="minProperties",
            )
        if self.counting and len(named) * len(named) > _MAX_COUNTED:
            raise Refused(f"Can't be counted with {len(named)} properties.", keyword="minProperties")
        self._rules: dict[tuple[int, int, bool], int] = {}
        self._waiting: list[tuple[int, int, bool]] = []

    def write(self) -> None:
        """Add the object to its rule."""
        build = self.to.build
        first = Part(self._at(0, 0, False))
        build.add(self.rule, [texts.OPEN_OBJECT, first, texts.CLOSE_OBJECT])
        if self.least == 0 and not any(need for *_, need in self.named):
            build.add(self.rule, [texts.EMPTY_OBJECT])
        while self._waiting:
            place = self._waiting.pop()
            self.to.fuel.burn(2)
            self._members(self._rules[place], *place)

    def _at(self, index: int, count: int, begun: bool) -> int:
        place = (index, count if self.counting else 0, begun)
        if place not in self._rules:
            self._rules[place] = self.to.build.new()
            self._waiting.append(place)
        return self._rules[place]

    def _members(self, rule: int, index: int, count: int, begun: bool) -> None:
        build, comma = self.to.build, [texts.COMMA] if begun else []
        room = self.most is None or not self.counting or count < self.most
        if index < len(self.named):
            key, value, needed = self.named[index]
            if room:
                build.add(rule, [*comma, key, texts.COLON, value, Part(self._at(index + 1, count + 1, True))])
            if not needed:
                build.add(rule, [Part(self._at(index + 1, count, begun))])
            return
        missing = self.least - count if self.counting else 0
        if begun and missing <= 0:
            build.add(rule, [])
        if self.other is not None and missing <= 1 and room:
            more = None if self.most is None else max(0, self.most - count - 1)
            tail = self.to.build.new([texts.COMMA, Part(self.other)])
            build.add(rule, [*comma, Part(self.other), *([] if more == 0 else [Part(tail, 0, more)])])


def _child(flat: Flat, name: str) -> Conj:
    """What the member of that name must be valid by."""
    return tuple(node for each in flat.members for node in _said(each, name))


def _said(members: Members, name: str) -> Conj:
    found = list(members.properties.get(name, ()))
    matched = False
    for pattern, conj in members.patterns:
        narrow = accepts(of_regex(_pattern(pattern, wide=False)), name)
        if narrow != accepts(of_regex(_pattern(pattern, wide=True)), name):
            raise Refused(
                f"It is not certain whether {pattern!r:.40} matches {name!r:.40}.", keyword="patternProperties"
            )
        matched = matched or narrow
        found += conj if narrow else ()
    if name not in members.properties and not matched and members.additional is not None:
        found += members.additional
    return tuple(found)


def _pattern(pattern: str, *, wide: bool) -> Regex:
    try:
        return matching(pattern, wide=wide)
    except Refused as error:
        raise Refused(error.text, keyword="patternProperties") from error


def _names(to: Target, flat: Flat) -> Regex | None:
    """The names that are allowed; None: all."""
    found = []
    for conj in flat.names:
        ways: list[Regex] = []
        for each in to.reader.alternatives(conj):
            if "string" not in each.types:
                continue
            if each.enum is not None:
                ways += (literal(value) for value in each.enum if isinstance(value, str))
                if not each.is_only_types():
                    raise Refused("Values beside other keywords can't be done.", keyword="propertyNames")
                continue
            said = texts_of(each.strings)
            least, most = counts(each.limits, "minLength", "maxLength")
            ways.append(regex.rep(regex.chars(regex.UNICODE), least, most) if said is None else said)
        found.append(alt(*ways))
    return both(*found) if found else None


def _others(to: Target, flat: Flat, names: list[str], allowed: Regex | None) -> int | None:
    """The rule of a member with another name; None if there is none."""
    said = any(each.additional is not None or each.patterns for each in flat.members)
    if not said and any(each.properties for each in flat.members) and flat.limits.get("minProperties", 0) <= len(names):
        return None
    ways: list[tuple[Regex, Conj, bool]] = [(ANYTHING if allowed is None else allowed, (), False)]
    for members in flat.members:
        ways = [
            (both(texts_, more), (*conj, *added), evaluated or said_)
            for texts_, conj, evaluated in ways
            for more, added, said_ in _classes(members)
        ]
        to.fuel.burn(len(ways))
    closed = any(each.patterns or each.properties for each in flat.members) and said
    taken = negation(alt(*map(literal, names))) if names else ANYTHING
    rule, any_way = to.build.new(), False
    known = Derivatives(to.fuel)
    for found, conj, evaluated in ways:
        # Names of which nobody says anything are left out if others are told apart.
        if (closed and not evaluated) or any(node.schema is False for node in conj):
            continue
        keys = both(found, taken)
        if keys is ANYTHING:
            to.build.add(rule, [texts.STRING, texts.COLON, to.value(conj)])
        elif known.is_empty(keys):
            continue
        else:
            to.build.add(rule, [quoted(keys), texts.COLON, to.value(conj)])
        any_way = True
    return rule if any_way else None


def _classes(members: Members) -> list[tuple[Regex, Conj, bool]]:
    """Classes of names that one schema tells apart: each of one pattern alone, and all others."""
    wide = [_pattern(pattern, wide=True) for pattern, _ in members.patterns]
    found: list[tuple[Regex, Conj, bool]] = []
    for index, (pattern, conj) in enumerate(members.patterns):
        alone = (negation(each) for other, each in enumerate(wide) if other != index)
        found.append((both(_pattern(pattern, wide=False), *alone), conj, True))
    others = both(ANYTHING, *map(negation, wide))
    return [*found, (others, members.additional or (), members.additional is not None)]
