"""Grammars whose regular languages a greedy lexer may read as one lexeme each.

llguidance's lexer reads the longest text that one of the lexemes which may come next matches, and never goes back. That
is right where no character may both go on with a lexeme and follow one that ends there. Where it may, a lexeme is
joined with what follows it, and otherwise taken apart into single characters, which are always right, but slow.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from gateway.grammars import regex
from gateway.grammars.automaton import lowered
from gateway.grammars.derive import Derivatives
from gateway.grammars.fuel import Fuel
from gateway.grammars.grammar import Alternative, Builder, Grammar, Part, Symbol, nullable_rules, tidy
from gateway.grammars.regex import NOTHING, Alt, Both, Cat, Chars, Literal, Ranges, Regex, Rep

#: Steps for one grammar, and times that it is changed.
_FUEL, _ROUNDS = 1_000_000, 64
#: Times that lexemes are joined, and how many times larger the grammar may become by it.
_JOINED, _GROWTH = 12, 8
#: Repetitions that are told apart.
_COUNTED = 4
#: Alternatives that are copied behind a lexeme.
_COPIED = 16

#: Rule, alternative, and place in it.
_Position = tuple[int, int, int]


def safe(grammar: Grammar, steps: int = _FUEL) -> Grammar:
    """The same language, in which every regular language may be a lexeme. Raises: TooLarge after so many steps."""
    if grammar.regular is not None:
        return grammar
    fuel, largest = Fuel(steps, "The grammar"), _GROWTH * (grammar.size + _GROWTH)
    for count in range(_ROUNDS):
        wrong = _Lexer(grammar, fuel).wrong()
        if not wrong:
            return grammar
        longer = _joined(grammar, wrong) if count < _JOINED and grammar.size < largest else grammar
        grammar = longer if longer != grammar else _taken_apart(grammar, wrong)
    return _taken_apart(grammar, set(_lexemes(grammar)))


class _Lexer:
    """All sets of lexemes that may come next, by the places where they stand."""

    def __init__(self, grammar: Grammar, fuel: Fuel) -> None:
        self.grammar, self.fuel = grammar, fuel
        self.known = Derivatives(fuel)
        self.nullable = nullable_rules(grammar.rules)
        self.first: list[frozenset[_Position]] = [frozenset()] * len(grammar.rules)
        self.follow: list[frozenset[_Position]] = [frozenset()] * len(grammar.rules)
        self._rough: dict[Regex, Regex] = {}
        self._ends: dict[frozenset[Regex], list[tuple[frozenset[Regex], Ranges, frozenset[Regex]]]] = {}
        self._begins: dict[Regex, Ranges] = {}
        self._settle()

    def wrong(self) -> set[Regex]:
        """Lexemes that a greedy lexer would read wrongly."""
        begin = self.first[self.grammar.start]
        seen, waiting = {begin}, [begin]
        after: dict[_Position, frozenset[_Position]] = {}
        while waiting:
            places = waiting.pop()
            self.fuel.burn(1 + len(places))
            here: dict[Regex, list[_Position]] = {}
            for place in places:
                here.setdefault(self._at(place), []).append(place)
            for ended, more, going in self._endings(frozenset(here)):
                following: set[_Position] = set()
                for each in ended:
                    for place in here[each]:
                        if place not in after:
                            after[place] = self._after(place)
                        following |= after[place]
                if more and regex.overlap(more, self._beginnings(following)):
                    return {each for each in ended if not _single(each)} or {e for e in going if not _single(e)}
                state = frozenset(following)
                if state not in seen:
                    seen.add(state)
                    waiting.append(state)
        return set()

    def _at(self, place: _Position) -> Regex:
        symbol = self.grammar.rules[place[0]][place[1]][place[2]]
        assert isinstance(symbol, Regex)
        return symbol

    def _after(self, place: _Position) -> frozenset[_Position]:
        rule, alternative, dot = place
        found, passed = self._ahead(rule, alternative, dot + 1)
        return frozenset(found | self.follow[rule] if passed else found)

    def _ahead(self, rule: int, alternative: int, dot: int) -> tuple[set[_Position], bool]:
        """Places that may be next in an alternative, and whether its end may be."""
        found: set[_Position] = set()
        symbols = self.grammar.rules[rule][alternative]
        for index in range(dot, len(symbols)):
            symbol = symbols[index]
            self.fuel.burn(1)
            if isinstance(symbol, Regex):
                found.add((rule, alternative, index))
                if not symbol.nullable:
                    return found, False
            else:
                self.fuel.burn(len(self.first[symbol.rule]) // 16)
                found |= self.first[symbol.rule]
                if symbol.least and not self.nullable[symbol.rule]:
                    return found, False
        return found, True

    def _settle(self) -> None:
        """What each rule begins with, and what follows it: the least solution."""
        rules = self.grammar.rules
        users: list[set[int]] = [set() for _ in rules]
        for number, rule in enumerate(rules):
            for symbol in (symbol for each in rule for symbol in each if isinstance(symbol, Part)):
                users[symbol.rule].add(number)
        waiting = dict.fromkeys(range(len(rules)))
        while waiting:
            number = next(reversed(waiting))
            del waiting[number]
            found = set(self.first[number])
            for index in range(len(rules[number])):
                found |= self._ahead(number, index, 0)[0]
            if len(found) > len(self.first[number]):
                self.first[number] = frozenset(found)
                waiting |= dict.fromkeys(users[number])
        waiting = dict.fromkeys(range(len(rules)))
        while waiting:
            number = next(iter(waiting))
            del waiting[number]
            for index, alternative in enumerate(rules[number]):
                for dot, symbol in enumerate(alternative):
                    if isinstance(symbol, Part) and self._follows(number, index, dot, symbol):
                        waiting[symbol.rule] = None

    def _follows(self, rule: int, alternative: int, dot: int, symbol: Part) -> bool:
        """Add what follows a rule where it stands. Returns whether there is more than was known."""
        found, passed = self._ahead(rule, alternative, dot + 1)
        if passed:
            found |= self.follow[rule]
        if symbol.most != 1:
            found |= self.first[symbol.rule]
        self.fuel.burn(1 + len(found) // 16)
        if found <= self.follow[symbol.rule]:
            return False
        self.follow[symbol.rule] |= found
        return True

    def _beginnings(self, places: Iterable[_Position]) -> Ranges:
        found: list[tuple[int, int]] = []
        for lexeme in {self._at(place) for place in places}:
            if lexeme not in self._begins:
                self._begins[lexeme] = self.known.first(lexeme)
            found += self._begins[lexeme]
        return regex.join(found)

    def _endings(self, lexemes: frozenset[Regex]) -> list[tuple[frozenset[Regex], Ranges, frozenset[Regex]]]:
        """The sets of lexemes that may end together, the characters by which some go on, and those that do."""
        if lexemes not in self._ends:
            self._ends[lexemes] = list(dict.fromkeys(self._joint(lexemes)))
        return self._ends[lexemes]

    def _joint(self, lexemes: frozenset[Regex]) -> Iterator[tuple[frozenset[Regex], Ranges, frozenset[Regex]]]:
        begin = frozenset((each, self._roughly(each)) for each in lexemes)
        seen, waiting, first = set[frozenset[tuple[Regex, Regex]]](), [begin], True
        while waiting:
            state = waiting.pop()
            self.fuel.burn(1 + len(state))
            branches = [(each, ranges, after) for each, left in state for ranges, after in self._branches(left)]
            ended = frozenset(each for each, left in state if left.nullable)
            if ended and not first:
                more = regex.join(pair for _, ranges, _ in branches for pair in ranges)
                yield ended, more, frozenset(each for each, _, _ in branches)
            first = False
            marks = sorted({edge for _, ranges, _ in branches for low, high in ranges for edge in (low, high + 1)})
            for mark in marks:
                following = frozenset(
                    (each, after)
                    for each, ranges, after in branches
                    if any(low <= mark <= high for low, high in ranges)
                )
                if following and following not in seen:
                    seen.add(following)
                    waiting.append(following)

    def _branches(self, part: Regex) -> Iterator[tuple[Ranges, Regex]]:
        return ((ranges, after) for ranges, after in self.known.branches(part) if not self.known.is_empty(after))

    def _roughly(self, part: Regex) -> Regex:
        """A language with all its texts, and perhaps more, which has fewer states."""
        if part not in self._rough:
            self._rough[part] = _rough(part)
        return self._rough[part]


def _rough(part: Regex) -> Regex:
    if isinstance(part, Cat):
        return regex.cat(*map(_rough, part.parts))
    if isinstance(part, Alt):
        return regex.alt(*map(_rough, part.parts))
    if isinstance(part, Rep):
        counted = part.least > _COUNTED or (part.most or 0) > _COUNTED
        return regex.rep(_rough(part.part)) if counted else regex.rep(_rough(part.part), part.least, part.most)
    if isinstance(part, Both):
        plain = [each for each in part.parts if each.plain]
        return _rough(plain[0]) if plain else part
    return part


def _single(part: Regex) -> bool:
    return regex.ranges_of(part) is not None


def _lexemes(grammar: Grammar) -> Iterator[Regex]:
    return (s for rule in grammar.rules for each in rule for s in each if isinstance(s, Regex) and not _single(s))


def _joined(grammar: Grammar, wrong: set[Regex]) -> Grammar:
    """The same language, in which each of these is joined with what follows it, where that is easy."""
    rules = [[way for each in rule for way in _with_what_follows(grammar, each, wrong)] for rule in grammar.rules]
    found = tidy(rules, grammar.start, fold=False)
    assert found is not None
    return found


def _taken_apart(grammar: Grammar, wrong: set[Regex]) -> Grammar:
    """The same language, in which each of these is made of single characters."""
    build = Builder()
    for _ in grammar.rules:
        build.new()
    taken: dict[Regex, Symbol] = {}
    for number, rule in enumerate(grammar.rules):
        for alternative in rule:
            build.add(number, [_apart(s, build, taken) if s in wrong else s for s in alternative])
    found = tidy(build.rules, grammar.start, fold=False)
    assert found is not None
    return found


def _with_what_follows(grammar: Grammar, alternative: Alternative, wrong: set[Regex]) -> list[Alternative]:
    """The alternative with one of these joined to the next lexeme; several, if what follows has several."""
    for index, symbol in enumerate(alternative[:-1]):
        if isinstance(symbol, Part) or symbol not in wrong:
            continue
        before, after = alternative[:index], alternative[index + 1 :]
        ways = [after] if isinstance(after[0], Regex) else list(_opened(grammar, after))
        if len(ways) <= _COPIED and not any(way and isinstance(way[0], Part) for way in ways):
            return [(*before, *_with_first(symbol, way)) for way in ways]
    return [alternative]


def _with_first(symbol: Regex, way: Alternative) -> Alternative:
    return (regex.cat(symbol, way[0]), *way[1:]) if way and isinstance(way[0], Regex) else (symbol, *way)


def _opened(grammar: Grammar, symbols: Alternative) -> Iterator[Alternative]:
    """The alternatives of the rule that comes first, each with what follows."""
    part = symbols[0]
    assert isinstance(part, Part)
    if part.least == 0:
        yield symbols[1:]
    most = None if part.most is None else part.most - 1
    again = () if most == 0 else (Part(part.rule, max(0, part.least - 1), most),)
    for each in grammar.rules[part.rule]:
        yield (*each, *again, *symbols[1:])


def _apart(part: Symbol, build: Builder, taken: dict[Regex, Symbol]) -> Symbol:
    """The same as rules of single characters."""
    if isinstance(part, Part) or _single(part):
        return part
    if part in taken:
        return taken[part]
    if isinstance(part, Literal):
        found: Symbol = Part(build.new([regex.literal(char) for char in part.text]))
    elif isinstance(part, Cat):
        found = Part(build.new([_apart(each, build, taken) for each in part.parts]))
    elif isinstance(part, Alt) and part is not NOTHING:
        found = Part(build.new(*([_apart(each, build, taken)] for each in part.parts)))
    elif isinstance(part, Rep):
        inner = _apart(part.part, build, taken)
        once = isinstance(inner, Part) and (inner.least, inner.most) == (1, 1)
        rule = inner.rule if once and isinstance(inner, Part) else build.new([inner])
        found = Part(rule, part.least, part.most)
    elif isinstance(part, Chars):
        found = part
    else:
        found = build.take(lowered(Grammar((((part,),),)), _single))
    taken[part] = found
    return found
