"""A grammar as xgrammar reads it (OpenVINO GenAI's `StructuredOutputConfig`): its own kind of EBNF."""

from __future__ import annotations

from gateway.grammars.automaton import is_simple, lowered
from gateway.grammars.grammar import Grammar, Part
from gateway.grammars.regex import Cat, Chars, Literal, Regex, Rep, Several

_ESCAPED = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "]": "\\]", "-": "\\-", "^": "\\^"}

#: Escaped in texts.
_QUOTED = '"\\'


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
        return " ".join(f'"{"".join(_char(each, _QUOTED) for each in piece)}"' for piece in _pieces(part.text)) or '""'
    if isinstance(part, Chars):
        ranges = (
            _char(chr(low), "\\]-^") + ("" if low == high else "-" + _char(chr(high), "\\]-^"))
            for low, high in sorted(part.ranges, key=lambda each: not _is_plain(chr(each[1])))
        )
        return f"[{''.join(ranges)}]"
    if isinstance(part, Rep):
        inner = _written(part.part)
        return f"{inner if isinstance(part.part, Chars) else f'({inner})'}{_times(part.least, part.most)}"
    assert isinstance(part, Several)
    return f"({(' ' if isinstance(part, Cat) else ' | ').join(map(_written, part.parts))})"


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
    return (
        f"\\x{ord(char):02x}"
        if ord(char) < 0x100
        else f"\\u{ord(char):04x}"
        if ord(char) < 0x10000
        else f"\\U{ord(char):08x}"
    )
