"""A grammar as xgrammar reads it (OpenVINO GenAI's `StructuredOutputConfig`): its own kind of EBNF.

It takes seconds over one repetition of some hundred times, and milliseconds over one of a few times of a few times: so
long ones are written by sixteens.
"""

from __future__ import annotations

from collections.abc import Iterator

from gateway.grammars.automaton import is_simple, lowered
from gateway.grammars.grammar import Grammar, Part
from gateway.grammars.regex import Cat, Chars, Literal, Regex, Rep, Several, times

_ESCAPED = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "]": "\\]", "-": "\\-", "^": "\\^"}
#: Longer repetitions are written by as many.
_MANY = 16
#: Where the bytes of UTF-8 begin to have other bounds.
_FIRST = (0x80, 0x800, 0x1000, 0xD000, 0xE000, 0x10000, 0x40000, 0x100000)
#: Escaped in texts.
_QUOTED = '"\\'


def to_ebnf(grammar: Grammar) -> str:
    """The text of the grammar. Raises: TooLarge."""
    return _Writer().text(lowered(grammar, is_simple))


class _Writer:
    def __init__(self) -> None:
        self._names: dict[Regex, str] = {}
        self._many: dict[str, str] = {}
        self._waiting: list[Regex] = []

    def text(self, grammar: Grammar) -> str:
        """All rules."""
        lines = [f"root ::= r{grammar.start}"]
        for number, rule in enumerate(grammar.rules):
            ways = (" ".join(map(self._symbol, each)) or '""' for each in rule)
            lines.append(f"r{number} ::= {' | '.join(ways)}")
        while self._waiting:
            part = self._waiting.pop()
            lines.append(f"{self._names[part]} ::= {self._written(part)}")
        lines += (f"{name} ::= {one}{{{_MANY}}}" for one, name in self._many.items())
        return "\n".join(lines) + "\n"

    def _symbol(self, symbol: Regex | Part) -> str:
        if isinstance(symbol, Part):
            return self._repeated(f"r{symbol.rule}", symbol.least, symbol.most)
        return self._written(symbol) if isinstance(symbol, Literal) else self._name(symbol)

    def _name(self, part: Regex) -> str:
        if part not in self._names:
            self._names[part] = f"t{len(self._names)}"
            self._waiting.append(part)
        return self._names[part]

    def _repeated(self, one: str, least: int, most: int | None) -> str:
        """`one` is a name, a class or a group."""
        if max(least, most or 0) <= 2 * _MANY:
            return one + times(least, most)
        needed, more = self._exactly(one, least), "" if most is None else self._at_most(one, most - least)
        return f"({needed} {one}*)" if most is None else f"({needed} {more})"

    def _exactly(self, one: str, times: int) -> str:
        if times <= _MANY:
            return f"{one}{{{times}}}" if times else '""'
        return f"{self._exactly(self._sixteen(one), times // _MANY)} {self._exactly(one, times % _MANY)}"

    def _at_most(self, one: str, times: int) -> str:
        if times <= 2 * _MANY:
            return f"{one}{{0,{times}}}" if times else '""'
        whole, left = divmod(times, _MANY)
        return f"{self._at_most(self._sixteen(one), whole - 1)} {one}{{0,{left + _MANY}}}"

    def _sixteen(self, one: str) -> str:
        return self._many.setdefault(one, f"m{len(self._many)}")

    def _written(self, part: Regex) -> str:
        if isinstance(part, Literal):
            texts = ("".join(_char(each, _QUOTED) for each in piece) for piece in _pieces(part.text))
            return " ".join(f'"{each}"' for each in texts) or '""'
        if isinstance(part, Chars):
            apart = (each for low, high in part.ranges for each in _by_bytes(low, high))
            ranges = (
                _char(chr(low), "\\]-^") + ("" if low == high else "-" + _char(chr(high), "\\]-^"))
                for low, high in sorted(apart, key=lambda each: not _is_plain(chr(each[1])))
            )
            return f"[{''.join(ranges)}]"
        if isinstance(part, Rep):
            short = max(part.least, part.most or 0) <= 2 * _MANY
            if short and not isinstance(part.part, Chars):
                return f"({self._written(part.part)}){times(part.least, part.most)}"
            one = self._written(part.part) if short else self._name(part.part)
            return self._repeated(one, part.least, part.most)
        assert isinstance(part, Several)
        return f"({(' ' if isinstance(part, Cat) else ' | ').join(map(self._written, part.parts))})"


def _by_bytes(low: int, high: int) -> Iterator[tuple[int, int]]:
    """A range in parts, each of which has all that its bytes may be: of others xgrammar also takes what is no UTF-8."""
    for first in _FIRST:
        if low < first <= high:
            yield low, first - 1
            low = first
    yield low, high


def _pieces(text: str) -> list[str]:
    """Texts that xgrammar reads rightly: what it writes as `\\xdf` and a digit behind it become another character.

    In classes such characters come last, for the same reason.
    """
    pieces = [""]
    for char in text:
        if pieces[-1] and not _is_plain(pieces[-1][-1]):
            pieces.append("")
        pieces[-1] += char
    return [piece for piece in pieces if piece]


def _is_plain(char: str) -> bool:
    return " " <= char <= "~"


def _char(char: str, special: str) -> str:
    if char in special or char in "\n\r\t":
        return _ESCAPED[char]
    if char.isprintable():
        return char
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
