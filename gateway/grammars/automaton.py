"""Regular languages written out as rules of single characters, for readers that have no intersection and complement."""

from __future__ import annotations

from collections.abc import Callable

from gateway.grammars import regex
from gateway.grammars.derive import Derivatives
from gateway.grammars.fuel import Fuel
from gateway.grammars.grammar import Alternative, Builder, Grammar, Part, Symbol, of_regex
from gateway.grammars.regex import NOTHING, Alt, Both, Cat, Multiple, Not, Regex, Rep, Several

#: States of all automata of one grammar.
_STATES = 10_000


def holds(part: Regex, *kinds: type[Regex]) -> bool:
    """Whether one of its nodes is of such a kind."""
    waiting = [part]
    while waiting:
        each = waiting.pop()
        if isinstance(each, kinds):
            return True
        if isinstance(each, Several):
            waiting += each.parts
        elif isinstance(each, Not | Rep):
            waiting.append(each.part)
    return False


def is_simple(part: Regex) -> bool:
    """Whether it is made of characters, sequences, choices and repetitions only."""
    return not holds(part, Both, Not, Multiple)


def lowered(grammar: Grammar, keep: Callable[[Regex], bool]) -> Grammar:
    """The same language, in which only regular languages that `keep` allows are left. Raises: TooLarge."""
    if all(keep(s) for rule in grammar.rules for each in rule for s in each if isinstance(s, Regex)):
        return grammar
    build, known = Builder(), dict[Regex, int]()
    derivatives = Derivatives(Fuel(_STATES, "A pattern"))
    for _ in grammar.rules:
        build.new()
    for number, rule in enumerate(grammar.rules):
        for alternative in rule:
            build.add(number, [_lower(symbol, keep, build, known, derivatives) for symbol in alternative])
    return build.grammar(grammar.start) or of_regex(NOTHING)


def _lower(
    symbol: Symbol, keep: Callable[[Regex], bool], build: Builder, known: dict[Regex, int], derivatives: Derivatives
) -> Symbol:
    if isinstance(symbol, Part) or keep(symbol):
        return symbol
    if symbol in known:
        return Part(known[symbol])
    known[symbol] = build.new()
    if isinstance(symbol, Cat | Alt) and symbol.parts:
        # Only the parts that need it become automata.
        parts = [_lower(part, keep, build, known, derivatives) for part in symbol.parts]
        for each in [parts] if isinstance(symbol, Cat) else [[part] for part in parts]:
            build.add(known[symbol], each)
        return Part(known[symbol])
    waiting = [symbol]
    while waiting:
        state = waiting.pop()
        loop: Symbol | None = None
        ways: list[Alternative] = [()] if state.nullable else []
        for ranges, after in derivatives.branches(state):
            if derivatives.is_empty(after):
                continue
            if after is state and keep(again := regex.rep(regex.chars(ranges))):
                loop = again
                continue
            if keep(after):
                ways.append((regex.chars(ranges), after))
                continue
            if after not in known:
                derivatives.fuel.burn()
                known[after] = build.new()
                waiting.append(after)
            ways.append((regex.chars(ranges), Part(known[after])))
        for way in ways:
            build.add(known[state], (loop, *way) if loop else way)
    return Part(known[symbol])
