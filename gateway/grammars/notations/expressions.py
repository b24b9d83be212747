"""What both notations come to: named expressions. Those that are regular become regular languages, the others rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.grammars import regex
from gateway.grammars.fuel import Refused
from gateway.grammars.grammar import Builder, Grammar, Part, Symbol, joined
from gateway.grammars.patterns import MAX_TIMES
from gateway.grammars.regex import EMPTY, Regex

#: Nodes of a regular language that a name stands for; larger ones stay rules.
_LARGEST = 4_000


@dataclass(frozen=True)
class Name:
    """Another expression, by its name."""

    name: str
    line: int


@dataclass(frozen=True)
class Sequence:
    """One after the other."""

    parts: tuple[Expression, ...]


@dataclass(frozen=True)
class Choice:
    """One of them."""

    parts: tuple[Expression, ...]


@dataclass(frozen=True)
class Repeat:
    """The same `least` to `most` times (None: any number)."""

    part: Expression
    least: int
    most: int | None


Expression = Regex | Name | Sequence | Choice | Repeat


def repeated(part: Expression, least: int, most: int | None, line: int) -> Repeat:
    """Raises: Refused."""
    if (most is not None and most < least) or max(least, most or 0) > MAX_TIMES:
        raise Refused(f"Got {least} to {most} times; at most {MAX_TIMES} are taken.", place=f"line {line}")
    return Repeat(part, least, most)


def grammar_from(named: Mapping[str, Expression], start: str, ignored: Regex | None = None) -> Grammar:
    """The grammar of one of the names. `ignored` may come behind each regular language. Raises: Refused."""
    if start not in named:
        raise Refused(f"There is no rule {start!r}.")
    try:
        return _Maker(named, ignored).grammar(start)
    except RecursionError as error:
        raise Refused("Its rules are nested too deeply.") from error


class _Maker:
    def __init__(self, named: Mapping[str, Expression], ignored: Regex | None) -> None:
        self.named, self.ignored = named, ignored
        self.build = Builder()
        self._regular: dict[str, Regex | None] = {}
        self._rules: dict[str, int] = {}

    def grammar(self, start: str) -> Grammar:
        """The whole grammar."""
        symbols = self._symbols(Name(start, 1))
        if self.ignored is not None:
            symbols = [self.ignored, *symbols]
        found = self.build.grammar(self.build.new(_merged(symbols)))
        if found is None:
            raise Refused("No text follows it.")
        return found

    def _regex(self, each: Expression) -> Regex | None:
        """The same as a regular language; None if it is none, or too large."""
        if isinstance(each, Regex):
            return each
        if isinstance(each, Name):
            return self._named(each)
        if isinstance(each, Repeat):
            inner = self._regex(each.part)
            return None if inner is None else regex.rep(inner, each.least, each.most)
        parts = []
        for part in each.parts:
            inner = self._regex(part)
            if inner is None:
                return None
            parts.append(inner)
        return regex.cat(*parts) if isinstance(each, Sequence) else regex.alt(*parts)

    def _named(self, each: Name) -> Regex | None:
        if each.name not in self.named:
            raise Refused(f"There is no rule {each.name!r}.", place=f"line {each.line}")
        if each.name not in self._regular:
            self._regular[each.name] = None  # for those that refer to themselves
            found = self._regex(self.named[each.name])
            self._regular[each.name] = found if found is not None and found.size <= _LARGEST else None
        return self._regular[each.name]

    def _symbols(self, each: Expression) -> list[Symbol]:
        found = None if self.ignored is not None and not isinstance(each, Regex) else self._regex(each)
        if found is not None:
            return [found] if self.ignored is None else [regex.cat(found, self.ignored)]
        if isinstance(each, Sequence):
            return _merged([symbol for part in each.parts for symbol in self._symbols(part)])
        if isinstance(each, Name):
            return [Part(self._rule(each))]
        if isinstance(each, Choice):
            return [Part(self.build.new(*(self._symbols(part) for part in each.parts)))]
        assert isinstance(each, Repeat)
        return [] if each.most == 0 else [Part(self.build.new(self._symbols(each.part)), each.least, each.most)]

    def _rule(self, each: Name) -> int:
        if each.name not in self.named:
            raise Refused(f"There is no rule {each.name!r}.", place=f"line {each.line}")
        if each.name not in self._rules:
            rule = self._rules[each.name] = self.build.new()
            meaning = self.named[each.name]
            for way in meaning.parts if isinstance(meaning, Choice) else (meaning,):
                self.build.add(rule, self._symbols(way))
        return self._rules[each.name]


def _merged(symbols: list[Symbol]) -> list[Symbol]:
    found: list[Symbol] = []
    for symbol in joined(symbols):
        if found and isinstance(symbol, Regex) and isinstance(found[-1], Regex):
            found[-1] = regex.cat(found[-1], symbol)
        elif symbol is not EMPTY:
            found.append(symbol)
    return found
