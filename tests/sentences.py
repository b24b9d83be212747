"""Random texts of a grammar."""

from __future__ import annotations

import random

from gateway.grammars import regex
from gateway.grammars.derive import Derivatives
from gateway.grammars.fuel import Fuel
from gateway.grammars.grammar import Alternative, Grammar, Part
from gateway.grammars.regex import Alt, Cat, Chars, Literal, Regex, Rep

_USUAL = [*map(ord, 'abcxyzABC019 _-.,:äß€😀"\\/{}[]\n')]
_FAR = 1 << 30


class Sentences:
    """Draws texts; the more it has drawn, the shorter is what it chooses."""

    def __init__(self, grammar: Grammar, seed: int, *, most: int = 60) -> None:
        self.grammar, self.random, self.most = grammar, random.Random(seed), most
        self.known = Derivatives(Fuel(10**9))
        self._lengths: dict[Regex, int] = {}
        self.least = [_FAR] * len(grammar.rules)
        for _ in grammar.rules:
            before = list(self.least)
            for number, rule in enumerate(grammar.rules):
                self.least[number] = min((self._cost(each) for each in rule), default=_FAR)
            if before == self.least:
                break

    def draw(self) -> str:
        """One text."""
        self.left = self.random.choice([0, 5, self.most])
        found: list[str] = []
        stack: list[Part | Regex] = [Part(self.grammar.start)]
        while stack:
            symbol = stack.pop()
            if isinstance(symbol, Regex):
                found.append(self._text(symbol))
                self.left -= 1 + len(found[-1]) // 8
                continue
            times = self._times(symbol.least, symbol.most)
            for _ in range(times):
                stack += reversed(self._choose(self.grammar.rules[symbol.rule]))
        return "".join(found)

    def _choose(self, rule: tuple[Alternative, ...]) -> Alternative:
        if self.left > 0:
            usable = [each for each in rule if self._cost(each) < _FAR]
            return self.random.choice(usable)
        return min(rule, key=self._cost)

    def _times(self, least: int, most: int | None) -> int:
        self.left -= 1
        upper = least + (self.random.randint(0, 3) if self.left > 0 else 0)
        return upper if most is None else min(most, upper)

    def _cost(self, alternative: Alternative) -> int:
        total = 1
        for each in alternative:
            total += self._length(each) if isinstance(each, Regex) else each.least * self.least[each.rule]
        return min(total, _FAR)

    def _length(self, part: Regex) -> int:
        """Of its shortest text, about."""
        if part not in self._lengths:
            self._lengths[part] = 0 if part.nullable else 1
        return self._lengths[part]

    def _text(self, part: Regex) -> str:
        if isinstance(part, Literal):
            return part.text
        if isinstance(part, Chars):
            return self._char(part.ranges)
        if isinstance(part, Cat) and part.plain and self._is_simple(part):
            return "".join(map(self._text, part.parts))
        if isinstance(part, Alt) and part.plain and self._is_simple(part):
            return self._text(self.random.choice(part.parts))
        if isinstance(part, Rep) and part.plain and self._is_simple(part):
            extra = self.random.choice([0, 1, 3, 12]) if self.left > 0 else 0
            times = part.least + extra if part.most is None else min(part.most, part.least + extra)
            return "".join(self._text(part.part) for _ in range(times))
        return self._walk(part)

    def _is_simple(self, part: Regex) -> bool:
        from gateway.grammars.automaton import is_simple

        return is_simple(part)

    def _walk(self, part: Regex) -> str:
        """Along derivatives, until the text may end."""
        found: list[str] = []
        wanted = self.random.choice([0, 2, 6])
        while not (part.nullable and len(found) >= wanted):
            ways = [(ranges, after) for ranges, after in self.known.branches(part) if not self.known.is_empty(after)]
            if not ways:
                break
            if len(found) > wanted + 8:
                return "".join(found) + self._shortest(part)
            ranges, part = self.random.choice(ways)
            found.append(self._char(ranges))
        return "".join(found)

    def _shortest(self, part: Regex) -> str:
        seen, waiting = {part}, [(part, "")]
        for current, text in waiting:
            if current.nullable:
                return text
            for ranges, after in self.known.branches(current):
                if after not in seen:
                    seen.add(after)
                    waiting.append((after, text + self._char(ranges)))
        raise AssertionError("An empty language")

    def _char(self, ranges: regex.Ranges) -> str:
        usual = [code for code in _USUAL if any(low <= code <= high for low, high in ranges)]
        if usual and self.random.random() < 0.8:
            return chr(self.random.choice(usual))
        low, high = self.random.choice(ranges)
        return chr(self.random.randint(low, high))
