"""Brzozowski's derivatives: what may follow a character in a regular language, and what can be found out with them.

The derivative of a repetition, an intersection or a complement is as easy as that of a sequence, so no automaton is
ever built as a whole unless somebody asks for one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from gateway.grammars import regex
from gateway.grammars.fuel import Fuel
from gateway.grammars.regex import EMPTY, NOTHING, Alt, Both, Cat, Chars, Literal, Multiple, Not, Ranges, Regex, Rep

#: The code points at which 0 begins, and 9 ends.
_ZERO, _NINE = ord("0"), ord("9")


class Derivatives:
    """Derivatives that are computed once each, for as long as this lives."""

    def __init__(self, fuel: Fuel) -> None:
        self.fuel = fuel
        self._known: dict[tuple[Regex, str], Regex] = {}
        self._empty: dict[Regex, bool] = {}

    def step(self, part: Regex, char: str) -> Regex:
        """What may follow `char` in texts of `part`. Raises: TooLarge."""
        found = self._known.get((part, char))
        if found is None:
            self.fuel.burn(1)
            found = self._known[part, char] = _STEP[type(part)](self, part, char)
        return found

    def is_empty(self, part: Regex) -> bool:
        """Whether it holds no text. Raises: TooLarge."""
        if part.plain or part.nullable:
            return part is NOTHING
        if part in self._empty:
            return self._empty[part]
        seen, waiting = {part}, [part]
        while waiting:
            current = waiting.pop()
            for _, after in self.branches(current):
                known = self._empty.get(after)
                if known or after in seen:
                    continue
                if after.nullable or after.plain or known is False:
                    self._empty[part] = False
                    return False
                seen.add(after)
                waiting.append(after)
        self._empty |= dict.fromkeys(seen, True)
        return True

    def branches(self, part: Regex) -> Iterator[tuple[Ranges, Regex]]:
        """The classes of characters that may come first, each with what may follow; no two of them overlap."""
        marks = sorted(mark for mark in _cuts(part) if mark <= regex.UNICODE[-1][1])
        after: dict[Regex, list[tuple[int, int]]] = {}
        for low, high in zip(marks, [*(mark - 1 for mark in marks[1:]), regex.UNICODE[-1][1]], strict=True):
            for first, last in regex.overlap(((low, high),), regex.UNICODE):
                following = self.step(part, chr(first))
                if following is not NOTHING:
                    after.setdefault(following, []).append((first, last))
        for following, ranges in after.items():
            yield regex.join(ranges), following

    def first(self, part: Regex) -> Ranges:
        """The characters that its texts begin with."""
        return regex.join(pair for ranges, after in self.branches(part) if not self.is_empty(after) for pair in ranges)

    def _several(self, part: Regex, char: str) -> Regex:
        assert isinstance(part, Cat)
        found = []
        for index, each in enumerate(part.parts):
            self.fuel.burn(1 + (len(part.parts) - index) // 8)
            found.append(regex.cat(self.step(each, char), *part.parts[index + 1 :]))
            if not each.nullable:
                break
        return regex.alt(*found)

    def _any(self, part: Regex, char: str) -> Regex:
        assert isinstance(part, Alt)
        self.fuel.burn(len(part.parts))
        return regex.alt(*(self.step(each, char) for each in part.parts))

    def _all(self, part: Regex, char: str) -> Regex:
        assert isinstance(part, Both)
        self.fuel.burn(len(part.parts))
        return regex.both(*(self.step(each, char) for each in part.parts))

    def _other(self, part: Regex, char: str) -> Regex:
        assert isinstance(part, Not)
        return regex.negation(self.step(part.part, char))

    def _again(self, part: Regex, char: str) -> Regex:
        assert isinstance(part, Rep)
        most = None if part.most is None else part.most - 1
        return regex.cat(self.step(part.part, char), regex.rep(part.part, max(0, part.least - 1), most))

    def _char(self, part: Regex, char: str) -> Regex:
        assert isinstance(part, Chars)
        code = ord(char)
        return EMPTY if any(low <= code <= high for low, high in part.ranges) else NOTHING

    def _text(self, part: Regex, char: str) -> Regex:
        assert isinstance(part, Literal)
        self.fuel.burn(len(part.text) // 256)
        return regex.literal(part.text[1:]) if part.text.startswith(char) else NOTHING

    def _digit(self, part: Regex, char: str) -> Regex:
        assert isinstance(part, Multiple)
        digit = ord(char) - _ZERO
        return regex.multiple(part.of, (10 * part.rest + digit) % part.of) if 0 <= digit <= 9 else NOTHING


_STEP: dict[type[Regex], Callable[[Derivatives, Regex, str], Regex]] = {
    Cat: Derivatives._several,
    Alt: Derivatives._any,
    Both: Derivatives._all,
    Not: Derivatives._other,
    Rep: Derivatives._again,
    Chars: Derivatives._char,
    Literal: Derivatives._text,
    Multiple: Derivatives._digit,
}


def _cuts(part: Regex) -> set[int]:
    """Code points at which the derivative may change; 0 is always one."""
    found, waiting = {0}, [part]
    while waiting:
        each = waiting.pop()
        if isinstance(each, Chars):
            found.update(edge for low, high in each.ranges for edge in (low, high + 1))
        elif isinstance(each, Literal) and each.text:
            found.update((ord(each.text[0]), ord(each.text[0]) + 1))
        elif isinstance(each, Multiple):
            found.update(range(_ZERO, _NINE + 2))
        elif isinstance(each, Cat):
            for inner in each.parts:
                waiting.append(inner)
                if not inner.nullable:
                    break
        elif isinstance(each, Alt | Both):
            waiting += each.parts
        elif isinstance(each, Not | Rep):
            waiting.append(each.part)
    return found
