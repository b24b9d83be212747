"""A context-free grammar over regular languages, and how grammars are put together.

A rule has alternatives, an alternative is a sequence of symbols: a regular language (`regex.py`), or a rule that comes
once or several times. It knows neither what it was made of, nor which engine reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from gateway.grammars import regex
from gateway.grammars.derive import Derivatives
from gateway.grammars.fuel import Fuel
from gateway.grammars.regex import EMPTY, NOTHING, Regex

#: Steps that it may take to find out which regular languages are empty.
_FUEL = 100_000


@dataclass(frozen=True, slots=True)
class Part:
    """A rule, `least` to `most` times (None: any number)."""

    rule: int
    least: int = 1
    most: int | None = 1


Symbol = Regex | Part
Alternative = tuple[Symbol, ...]
Rule = tuple[Alternative, ...]


@dataclass(frozen=True)
class Grammar:
    """Rules by number. What it accepts is what its rule `start` makes."""

    rules: tuple[Rule, ...]
    start: int = 0

    @property
    def regular(self) -> Regex | None:
        """The regular language that it is, if it is nothing else."""
        rule = self.rules[self.start]
        return rule[0][0] if len(rule) == 1 and len(rule[0]) == 1 and isinstance(rule[0][0], Regex) else None

    @property
    def size(self) -> int:
        """Symbols, and nodes of its regular languages, each language once."""
        symbols = [symbol for rule in self.rules for alternative in rule for symbol in alternative]
        return len(symbols) + sum(each.size for each in set(symbols) if isinstance(each, Regex))


class Builder:
    """Rules while they are being written: a number may be used before its rule is there."""

    def __init__(self) -> None:
        self.rules: list[list[Alternative]] = []

    def new(self, *alternatives: Iterable[Symbol]) -> int:
        """A new rule. Returns its number."""
        self.rules.append([joined(each) for each in alternatives])
        return len(self.rules) - 1

    def add(self, rule: int, alternative: Iterable[Symbol]) -> None:
        """One more alternative."""
        self.rules[rule].append(joined(alternative))

    def take(self, grammar: Grammar) -> Symbol:
        """All rules of another grammar. Returns what stands for it."""
        if grammar.regular is not None:
            return grammar.regular
        offset = len(self.rules)
        self.rules += ([_moved(each, offset) for each in rule] for rule in grammar.rules)
        return Part(grammar.start + offset)

    def grammar(self, start: int) -> Grammar | None:
        """The grammar, without rules that make nothing or that nobody uses; None if it accepts no text."""
        return tidy(self.rules, start)


def of_regex(part: Regex) -> Grammar:
    """A regular language as a grammar."""
    return Grammar((((part,),),))


def literal(text: str) -> Grammar:
    """That text, and nothing else."""
    return of_regex(regex.literal(text))


def text_without(*markers: str) -> Grammar:
    """Any text in which none of the markers is found."""
    found = regex.cat(regex.ANYTHING, regex.alt(*map(regex.literal, markers)), regex.ANYTHING)
    return of_regex(regex.negation(found) if markers else regex.ANYTHING)


def sequence(*grammars: Grammar) -> Grammar:
    """One after the other."""
    parts = [each.regular for each in grammars]
    if all(parts):
        return of_regex(regex.cat(*filter(None, parts)))
    build = Builder()
    return _must(build, build.new([build.take(each) for each in grammars]))


def either(*grammars: Grammar) -> Grammar:
    """One of them."""
    parts = [each.regular for each in grammars]
    if all(parts):
        return of_regex(regex.alt(*filter(None, parts)))
    build = Builder()
    return _must(build, build.new(*([build.take(each)] for each in grammars)))


def repeated(grammar: Grammar, least: int = 0, most: int | None = None) -> Grammar:
    """The same `least` to `most` times (None: any number)."""
    if grammar.regular is not None:
        return of_regex(regex.rep(grammar.regular, least, most))
    if most == 0:
        return literal("")
    build = Builder()
    part = build.take(grammar)
    assert isinstance(part, Part)
    return _must(build, build.new([Part(part.rule, least, most)]))


def joined(symbols: Iterable[Symbol]) -> Alternative:
    """Symbols without empty ones."""
    return tuple(each for each in symbols if each is not EMPTY)


def nullable_rules(rules: Sequence[Sequence[Alternative]]) -> list[bool]:
    """For each rule whether it makes the empty text."""
    return _least(rules, lambda symbol, known: symbol.least == 0 or known[symbol.rule], lambda part: part.nullable)


def tidy(rules: Sequence[Sequence[Alternative]], start: int, *, fold: bool = True) -> Grammar | None:
    """The same language without rules that make nothing, stand for one other, or are never used; None if it is empty.

    `fold`: repetitions of what is regular become regular. Raises: TooLarge.
    """
    known = Derivatives(Fuel(_FUEL, "The grammar"))
    makes = _least(
        rules, lambda symbol, made: symbol.least == 0 or made[symbol.rule], lambda part: not known.is_empty(part)
    )
    if not makes[start]:
        return None
    kept: list[list[Alternative]] = [
        list(dict.fromkeys(joined(_useful(each, makes)) for each in rule if _fits(each, makes, known)))
        for rule in rules
    ]
    stands_for = _singles(kept)
    order, numbers, found = [start], {start: 0}, []
    for rule in order:
        alternatives = []
        for alternative in kept[rule]:
            symbols: list[Symbol] = []
            for symbol in alternative:
                if isinstance(symbol, Part):
                    inner = stands_for[symbol.rule]
                    if isinstance(inner, Regex) and not fold and (symbol.least, symbol.most) != (1, 1):
                        inner = symbol.rule
                    if isinstance(inner, Regex):
                        symbol = regex.rep(inner, symbol.least, symbol.most)
                    else:
                        if inner not in numbers:
                            numbers[inner] = len(order)
                            order.append(inner)
                        symbol = Part(numbers[inner], symbol.least, symbol.most)
                symbols.append(symbol)
            alternatives.append(joined(symbols))
        found.append(tuple(dict.fromkeys(alternatives)))
    first = found[0]
    if len(first) == 1 and len(first[0]) == 1 and isinstance(first[0][0], Part) and first[0][0] != Part(0):
        part = first[0][0]
        if (part.least, part.most) == (1, 1):
            return tidy(found, part.rule, fold=fold)
    return Grammar(tuple(found))


def _singles(rules: Sequence[Sequence[Alternative]]) -> list[int | Regex]:
    """For each rule the rule or regular language that it stands for."""
    found: list[int | Regex | None] = [None] * len(rules)
    for number in range(len(rules)):
        path, seen, here = [], set[int](), number
        target: int | Regex | None = None
        while target is None:
            path.append(here)
            seen.add(here)
            if (known := found[here]) is not None:
                target = known
            elif len(rules[here]) != 1 or len(rules[here][0]) > 1:
                target = here
            else:
                symbol = rules[here][0][0] if rules[here][0] else EMPTY
                if isinstance(symbol, Regex):
                    target = symbol
                elif (symbol.least, symbol.most) != (1, 1) or symbol.rule in seen:
                    target = here
                else:
                    here = symbol.rule
        for each in path:
            found[each] = target
    return [number if each is None else each for number, each in enumerate(found)]


def _fits(alternative: Alternative, makes: Sequence[bool], known: Derivatives) -> bool:
    return all(
        symbol.least == 0 or makes[symbol.rule] if isinstance(symbol, Part) else not known.is_empty(symbol)
        for symbol in alternative
    )


def _useful(alternative: Alternative, makes: Sequence[bool]) -> Iterator[Symbol]:
    for symbol in alternative:
        if not isinstance(symbol, Part) or makes[symbol.rule]:
            yield symbol


def _least(
    rules: Sequence[Sequence[Alternative]],
    of_part: Callable[[Part, list[bool]], bool],
    of_regex: Callable[[Regex], bool],
) -> list[bool]:
    """The smallest solution of: a rule has a property if all symbols of one of its alternatives have it."""
    known = [False] * len(rules)
    #: For each rule the alternatives that wait for it: how many of their symbols lack the property, and whose they are.
    users: list[list[list[int]]] = [[] for _ in rules]
    waiting: list[int] = []
    for number, rule in enumerate(rules):
        for alternative in rule:
            if not all(isinstance(each, Part) or of_regex(each) for each in alternative):
                continue
            lacking = [each.rule for each in alternative if isinstance(each, Part) and not of_part(each, known)]
            if not lacking:
                waiting.append(number)
            entry = [len(lacking), number]
            for each_rule in lacking:
                users[each_rule].append(entry)
    while waiting:
        number = waiting.pop()
        if known[number]:
            continue
        known[number] = True
        for entry in users[number]:
            entry[0] -= 1
            if not entry[0]:
                waiting.append(entry[1])
    return known


def _moved(alternative: Alternative, offset: int) -> Alternative:
    return tuple(
        Part(symbol.rule + offset, symbol.least, symbol.most) if isinstance(symbol, Part) else symbol
        for symbol in alternative
    )


def _must(build: Builder, start: int) -> Grammar:
    found = build.grammar(start)
    return found if found is not None else of_regex(NOTHING)
