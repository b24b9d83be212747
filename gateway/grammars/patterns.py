"""Regular expressions, as Python and ECMAScript write them, as regular languages.

Where the two differ (`\\d` of other scripts, `.` and line ends, `$` before a last newline) the narrow reading is what
both hold, the wide one what either does: whoever takes the complement must ask for the wide one.
"""

from __future__ import annotations

import re
import re._constants as ops  # type: ignore[import-not-found]
import re._parser as parser  # type: ignore[import-not-found]
import warnings
from collections.abc import Sequence
from functools import lru_cache
from itertools import product
from typing import Any, NamedTuple

from gateway.grammars import regex
from gateway.grammars.fuel import Fuel, Refused
from gateway.grammars.regex import ANYTHING, EMPTY, NOTHING, Ranges, Regex, alt, both, cat, literal, negation, rep

#: Most repetitions of one part.
MAX_TIMES = 100_000
#: Nodes of one pattern.
_NODES = 20_000
_ALL = regex.UNICODE
_OTHERS = ((0x80, 0xD7FF), (0xE000, 0x10FFFF))
_SPACE_ASCII = ((9, 13), (32, 32))
_SPACE_WIDE = regex.join(
    [
        *((9, 13), (0x1C, 0x20), (0x85, 0x85), (0xA0, 0xA0), (0x1680, 0x1680), (0x2000, 0x200A), (0x2028, 0x2029)),
        *((0x202F, 0x202F), (0x205F, 0x205F), (0x3000, 0x3000), (0xFEFF, 0xFEFF)),
    ]
)
_DIGIT, _WORD = ((48, 57),), ((48, 57), (65, 90), (95, 95), (97, 122))
#: By category: what both hold, what either may hold, and whether it is the complement.
_CATEGORIES: dict[Any, tuple[Ranges, Ranges, bool]] = {
    ops.CATEGORY_DIGIT: (_DIGIT, regex.join([*_DIGIT, *_OTHERS]), False),
    ops.CATEGORY_WORD: (_WORD, regex.join([*_WORD, *_OTHERS]), False),
    ops.CATEGORY_SPACE: (_SPACE_ASCII, _SPACE_WIDE, False),
    ops.CATEGORY_NOT_DIGIT: (_DIGIT, regex.join([*_DIGIT, *_OTHERS]), True),
    ops.CATEGORY_NOT_WORD: (_WORD, regex.join([*_WORD, *_OTHERS]), True),
    ops.CATEGORY_NOT_SPACE: (_SPACE_ASCII, _SPACE_WIDE, True),
}
_REPEATS = (ops.MAX_REPEAT, ops.MIN_REPEAT)
#: What can't be done, and its name.
_BEYOND = {
    ops.GROUPREF: "a back reference",
    ops.GROUPREF_EXISTS: "a conditional group",
    ops.ASSERT: "a look-around inside a group, or behind",
    ops.ASSERT_NOT: "a look-around inside a group, or behind",
    getattr(ops, "ATOMIC_GROUP", None): "an atomic group",
    getattr(ops, "POSSESSIVE_REPEAT", None): "a possessive repetition",
}


class _Piece(NamedTuple):
    """Texts that one way through a pattern matches, and whether they must begin or end where the whole text does."""

    texts: Regex
    begins: bool = False
    ends: bool = False


@lru_cache(maxsize=64)
def matching(pattern: str, *, whole: bool = False, wide: bool = False) -> Regex:
    """The texts in which a pattern is found; `whole`: those that it matches from the first character to the last.

    Raises: Refused, TooLarge.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = parser.parse(pattern)
    except (re.error, RecursionError, OverflowError, ValueError) as error:
        raise Refused(f"Is not a regular expression of Python and ECMAScript: {str(error)[:200]}.") from error
    flags = tree.state.flags & ~re.UNICODE.value
    if flags & ~re.DOTALL.value:
        raise Refused("Flags can't be done, except (?s).")
    reader = _Reader(wide=wide, whole=whole, dotall=bool(flags))
    try:
        return reader.language(tree)
    except RecursionError as error:
        raise Refused("Is nested too deeply.") from error


class _Reader:
    def __init__(self, *, wide: bool, whole: bool, dotall: bool) -> None:
        self.wide, self.whole, self.dotall = wide, whole, dotall
        self.fuel = Fuel(_NODES, "The pattern")

    def language(self, tree: Sequence[Any]) -> Regex:
        """The texts of a whole pattern."""
        return alt(*(cat(EMPTY if p.begins or self.whole else ANYTHING, self._tail(p)) for p in self._seq(tree, True)))

    def _tail(self, piece: _Piece) -> Regex:
        return piece.texts if piece.ends or self.whole else cat(piece.texts, ANYTHING)

    def _seq(self, tree: Sequence[Any], top: bool) -> list[_Piece]:
        """The ways through a sequence; `top`: nothing comes behind it."""
        found, plain = [_Piece(EMPTY)], list[Regex]()
        nodes = list(tree)
        for index, (kind, what) in enumerate(nodes):
            self.fuel.burn(1)
            if kind in (ops.ASSERT, ops.ASSERT_NOT) and top and what[0] == 1:
                found = self._joined(found, [_Piece(cat(*plain))])
                return self._joined(found, self._ahead(kind, what[1], self._seq(nodes[index + 1 :], True)))
            pieces = self._node(kind, what, top and index == len(nodes) - 1)
            if len(pieces) == 1 and not pieces[0].begins and not pieces[0].ends:
                plain.append(pieces[0].texts)
                continue
            found = self._joined(self._joined(found, [_Piece(cat(*plain))]), pieces)
            plain = []
        return self._joined(found, [_Piece(cat(*plain))])

    def _ahead(self, kind: Any, tree: Any, behind: list[_Piece]) -> list[_Piece]:
        """A look ahead: what comes must hold it, too."""
        seen = alt(*(p.texts if p.ends else cat(p.texts, ANYTHING) for p in self._seq(tree, False)))
        if kind is ops.ASSERT_NOT:
            other = _Reader(wide=not self.wide, whole=False, dotall=self.dotall)
            seen = negation(alt(*(p.texts if p.ends else cat(p.texts, ANYTHING) for p in other._seq(tree, False))))
        return [_Piece(both(self._tail(p), seen), p.begins, True) for p in behind]

    def _joined(self, before: list[_Piece], after: list[_Piece]) -> list[_Piece]:
        found: dict[tuple[bool, bool], list[Regex]] = {}
        for one, other in product(before, after):
            left = both(one.texts, EMPTY) if other.begins else one.texts
            right = both(other.texts, EMPTY) if one.ends else other.texts
            texts = cat(left, right)
            if texts is not NOTHING:
                self.fuel.burn(1)
                found.setdefault((one.begins or other.begins, one.ends or other.ends), []).append(texts)
        return [_Piece(alt(*texts), *edges) for edges, texts in found.items()]

    def _node(self, kind: Any, what: Any, top: bool) -> list[_Piece]:
        if kind is ops.LITERAL:
            return [_Piece(literal(chr(what)) if not 0xD800 <= what <= 0xDFFF else NOTHING)]
        if kind is ops.NOT_LITERAL:
            return [_Piece(regex.chars(regex.complement([(what, what)])))]
        if kind is ops.ANY:
            return [_Piece(regex.chars(self._any()))]
        if kind is ops.IN:
            return [_Piece(regex.chars(self._class(what)))]
        if kind is ops.BRANCH:
            ways = [piece for each in what[1] for piece in self._seq(each, top)]
            return self._joined([_Piece(EMPTY)], ways)
        if kind is ops.SUBPATTERN:
            if what[1] & ~re.UNICODE.value or what[2]:
                raise Refused("Flags of a group can't be done.")
            return self._seq(what[3], top)
        if kind in _REPEATS:
            return self._repeat(*what)
        if kind is ops.AT:
            return self._edge(what)
        raise Refused(f"Holds {_BEYOND.get(kind, str(kind).lower())}, which can't be done.")

    def _repeat(self, least: int, most: Any, tree: Any) -> list[_Piece]:
        limit = None if most is ops.MAXREPEAT else int(most)
        if max(least, limit or 0) > MAX_TIMES:
            raise Refused(f"Repeats something {max(least, limit or 0)} times; at most {MAX_TIMES} are taken.")
        ways = self._seq(tree, False)
        if not any(way.begins or way.ends for way in ways):
            return [_Piece(rep(alt(*(way.texts for way in ways)), least, limit))]
        if limit == 1:
            return ways if least else self._joined([_Piece(EMPTY)], [*ways, _Piece(EMPTY)])
        raise Refused("Repeats ^ or $, which can't be done.")

    def _edge(self, what: Any) -> list[_Piece]:
        if what in (ops.AT_BEGINNING, ops.AT_BEGINNING_STRING):
            return [_Piece(EMPTY, begins=True)]
        if what is ops.AT_END_STRING or (what is ops.AT_END and not self.wide):
            return [_Piece(EMPTY, ends=True)]
        if what is ops.AT_END:
            return [_Piece(alt(EMPTY, literal("\n")), ends=True)]
        raise Refused("Holds a word boundary, which can't be done.")

    def _any(self) -> Ranges:
        if self.dotall:
            return _ALL
        ends = ((10, 10),) if self.wide else ((10, 10), (13, 13), (0x2028, 0x2029))
        return regex.complement(ends)

    def _class(self, members: Sequence[Any]) -> Ranges:
        negated = members[0][0] is ops.NEGATE
        ranges: list[tuple[int, int]] = []
        for kind, what in members[1:] if negated else members:
            if kind is ops.LITERAL:
                ranges.append((what, what))
            elif kind is ops.RANGE:
                ranges.append(what)
            else:
                ranges += self._category(what, wide=self.wide != negated)
        found = regex.join(ranges)
        return regex.complement(found) if negated else regex.overlap(found, _ALL)

    def _category(self, what: Any, *, wide: bool) -> Ranges:
        narrow, broad, complement = _CATEGORIES[what]
        if complement:
            return regex.complement(narrow if wide else broad)
        return broad if wide else narrow
