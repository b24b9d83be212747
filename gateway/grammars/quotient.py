"""What may still follow a text: the left quotient of a grammar, read off an Earley chart over characters.

Each regular language that the text's end is in the middle of gives a way to go on: what is left of it (its derivative),
what is left of its rule, then what waits for that rule. Right recursion takes time linear in the text (J. Leo, 1991).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from gateway.grammars.derive import Derivatives
from gateway.grammars.fuel import Fuel
from gateway.grammars.grammar import Alternative, Builder, Grammar, Part, Symbol, nullable_rules
from gateway.grammars.regex import NOTHING, Regex

#: Steps that one text may take, apart from those for each of its characters.
_FUEL, _FUEL_PER_CHARACTER = 1_000_000, 2_000


class _Item(NamedTuple):
    """An alternative that began at `origin` and is read up to `dot`, and `times` times the rule that stands there."""

    production: int
    dot: int
    times: int
    origin: int


class _Column:
    """What is known between two characters."""

    __slots__ = ("tops", "waiting")

    def __init__(self) -> None:
        #: Items that wait for a rule which begins here.
        self.waiting: dict[int, list[_Item]] = {}
        #: Where the only way to go on behind a rule that begins here leads to in the end.
        self.tops: dict[int, tuple[int, int]] = {}


def rest(grammar: Grammar, text: str) -> Grammar | None:
    """The grammar of all that may follow `text`; None if no text of `grammar` begins with it. Raises: TooLarge."""
    chart = Chart(grammar)
    return chart.remainder() if chart.read(text) else None


def accepts(grammar: Grammar, text: str) -> bool:
    """Whether it makes that text. Raises: TooLarge."""
    chart = Chart(grammar)
    return chart.read(text) and chart.accepted


class Chart:
    """All ways to read a text so far."""

    def __init__(self, grammar: Grammar) -> None:
        self.fuel = Fuel(_FUEL, "The answer's form")
        self._derivatives = Derivatives(self.fuel)
        self._grammar = grammar
        self._nullable = nullable_rules(grammar.rules)
        self._top = len(grammar.rules)
        self._productions: list[tuple[int, Alternative]] = [(self._top, (Part(grammar.start),))]
        self._of_rule: list[list[int]] = []
        for number, rule in enumerate(grammar.rules):
            first = len(self._productions)
            self._productions += [(number, alternative) for alternative in rule]
            self._of_rule.append(list(range(first, len(self._productions))))
        self._columns: dict[int, _Column] = {}
        self._at = 0
        #: Regular languages in the middle of which the text ends, each with the item in which it stands.
        self._open: dict[tuple[Regex, _Item], None] = {}
        #: Whether the text is a whole one.
        self.accepted = False
        self._fill([_Item(0, 0, 0, 0)])

    def read(self, text: str) -> bool:
        """Go on by some characters. False: no text begins so. Raises: TooLarge."""
        self.fuel.left += _FUEL_PER_CHARACTER * len(text)
        step = self._derivatives.step
        for char in text:
            before, self._open, advanced = self._open, {}, []
            for part, item in before:
                after = step(part, char)
                if after is not NOTHING:
                    self._open[after, item] = None
                    if after.nullable:
                        advanced.append(_Item(item.production, item.dot + 1, 0, item.origin))
            self.fuel.burn(len(before))
            self._at += 1
            self.accepted = False
            if advanced:
                self._fill(advanced)
            if not self._open and not self.accepted:
                return False
        return True

    def _fill(self, items: list[_Item]) -> None:
        """Add to the present column what follows from these items."""
        column, seen, finished = _Column(), set(items), set[tuple[int, int]]()
        stack = list(seen)

        def add(item: _Item) -> None:
            if item not in seen:
                seen.add(item)
                stack.append(item)

        while stack:
            item = stack.pop()
            self.fuel.burn(1)
            rule, symbols = self._productions[item.production]
            if item.dot == len(symbols):
                self._complete(rule, item.origin, finished, add)
                continue
            symbol = symbols[item.dot]
            if isinstance(symbol, Regex):
                self._open[symbol, item] = None
                if symbol.nullable:
                    add(_Item(item.production, item.dot + 1, 0, item.origin))
                continue
            if item.times >= symbol.least or self._nullable[symbol.rule]:
                add(_Item(item.production, item.dot + 1, 0, item.origin))
            if symbol.rule not in column.waiting:
                column.waiting[symbol.rule] = []
                for production in self._of_rule[symbol.rule]:
                    add(_Item(production, 0, 0, self._at))
            column.waiting[symbol.rule].append(item)
        if column.waiting:
            self._columns[self._at] = column

    def _complete(self, rule: int, origin: int, finished: set[tuple[int, int]], add: Callable[[_Item], None]) -> None:
        """A rule that began at `origin` ends here: go on with all that wait for it.

        One that is empty is nothing new, since whoever waits for it goes on without it.
        """
        if rule == self._top:
            self.accepted = True
            return
        if origin == self._at:
            return
        rule, origin = self._highest(rule, origin)
        if rule == self._top:
            self.accepted = True
            return
        if (rule, origin) in finished:
            return
        finished.add((rule, origin))
        column = self._columns.get(origin)
        for item in column.waiting.get(rule, ()) if column else ():
            symbol = self._productions[item.production][1][item.dot]
            assert isinstance(symbol, Part)
            count = item.times + 1
            if count == symbol.most:
                add(_Item(item.production, item.dot + 1, 0, item.origin))
            else:
                count = min(count, symbol.least) if symbol.most is None else count
                add(_Item(item.production, item.dot, count, item.origin))

    def _highest(self, rule: int, origin: int) -> tuple[int, int]:
        """Follow those who wait alone, and end with what they wait for."""
        path: list[tuple[int, int]] = []
        here = (rule, origin)
        while True:
            column = self._columns.get(here[1])
            if column is None or here in path[-1:]:
                break
            if known := column.tops.get(here[0]):
                here = known
                break
            waiting = column.waiting.get(here[0], ())
            if len(waiting) != 1:
                break
            item = waiting[0]
            user, symbols = self._productions[item.production]
            symbol = symbols[item.dot]
            assert isinstance(symbol, Part)
            if item.dot + 1 != len(symbols) or item.times + 1 != symbol.most:
                break
            path.append(here)
            here = (user, item.origin)
            if user == self._top or len(path) > len(self._columns) * len(self._of_rule):
                break
        for each in path:
            self._columns[each[1]].tops[each[0]] = here
        return here

    def remainder(self) -> Grammar | None:
        """The grammar of what may follow. Raises: TooLarge."""
        build = Builder()
        for rule in self._grammar.rules:
            build.new(*rule)
        start = build.new(*([[]] if self.accepted else []))
        names: dict[tuple[int, int], int] = {}
        waiting: list[tuple[int, int]] = []

        def then(item: _Item, left: Iterable[Symbol]) -> list[Symbol]:
            """What is left of an alternative, and what waits for its rule."""
            rule, symbols = self._productions[item.production]
            after = [*left, *symbols[item.dot + 1 :]]
            if rule == self._top:
                return after
            place = (rule, item.origin)
            if place not in names:
                names[place] = build.new()
                waiting.append(place)
            return [*after, Part(names[place])]

        for part, item in self._open:
            build.add(start, then(item, [part]))
        while waiting:
            place = waiting.pop()
            for item in self._columns[place[1]].waiting[place[0]]:
                self.fuel.burn(1)
                build.add(names[place], then(item, self._more(item)))
        return build.grammar(start)

    def _more(self, item: _Item) -> list[Symbol]:
        """How often the rule at the dot may come once more, when it has ended."""
        symbol = self._productions[item.production][1][item.dot]
        assert isinstance(symbol, Part)
        least = max(0, symbol.least - item.times - 1)
        most = None if symbol.most is None else symbol.most - item.times - 1
        return [] if most == 0 else [Part(symbol.rule, least, most)]
