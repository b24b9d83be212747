"""A grammar as xgrammar reads it (OpenVINO GenAI's `StructuredOutputConfig`): its own kind of EBNF."""

from __future__ import annotations

from gateway.grammars.automaton import is_simple, lowered
from gateway.grammars.grammar import Grammar, Part
from gateway.grammars.regex import Cat, Chars, Literal, Regex, Rep, Several

_ESCAPED = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "]": "\\]", "-": "\\-", "^": "\\^"}


def to_ebnf(grammar: Grammar) -> str:
    """The text of the grammar. Raises: TooLarge."""
    grammar = lowered(grammar, is_simple)
    names: dict[Regex, str] = {}
    lines = [f"root ::= r{grammar.start}"]
    for number, rule in enumerate(grammar.rules):
        ways = (" ".join(_symbol(symbol, names) for symbol in each) or '""' for each in rule)
        lines.append(f"r{number} ::= {' | '.join(ways)}")
    lines += (f"{name} ::= {_written(part)}" for part, name in names.items())
    return "\n".join(lines) + "\n"


def _symbol(symbol: Regex | Part, names: dict[Regex, str]) -> str:
    if isinstance(symbol, Part):
        return f"r{symbol.rule}{_times(symbol.least, symbol.most)}"
    if isinstance(symbol, Literal):
        return _written(symbol)
    return names.setdefault(symbol, f"t{len(names)}")


def _times(least: int, most: int | None) -> str:
    if (least, most) == (1, 1):
        return ""
    if most is None:
        return ("*", "+")[least] if least < 2 else f"{{{least},}}"
    return "?" if (least, most) == (0, 1) else f"{{{least},{most}}}"


def _written(part: Regex) -> str:
    if isinstance(part, Literal):
        return '"' + "".join(_char(each, '"\\') for each in part.text) + '"'
    if isinstance(part, Chars):
        ranges = (
            _char(chr(low), "\\]-^") + ("" if low == high else "-" + _char(chr(high), "\\]-^"))
            for low, high in part.ranges
        )
        return f"[{''.join(ranges)}]"
    if isinstance(part, Rep):
        inner = _written(part.part)
        return f"{inner if isinstance(part.part, Chars) else f'({inner})'}{_times(part.least, part.most)}"
    assert isinstance(part, Several)
    return f"({(' ' if isinstance(part, Cat) else ' | ').join(map(_written, part.parts))})"


def _char(char: str, special: str) -> str:
    if char in special or char in "\n\r\t":
        return _ESCAPED[char]
    if char.isprintable():
        return char
    return (
        f"\\x{ord(char):02x}"
        if ord(char) < 0x100
        else f"\\u{ord(char):04x}"
        if ord(char) < 0x10000
        else f"\\U{ord(char):08x}"
    )
