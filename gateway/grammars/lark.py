"""A grammar as llguidance reads it: Lark, with `&` and `~` in terminals."""

from __future__ import annotations

from collections.abc import Iterator

from gateway.grammars.automaton import holds, lowered
from gateway.grammars.grammar import Grammar, Part
from gateway.grammars.lexemes import safe
from gateway.grammars.regex import (
    ANYTHING,
    NOTHING,
    Both,
    Cat,
    Chars,
    Literal,
    Multiple,
    Not,
    Ranges,
    Regex,
    Rep,
    Several,
    times,
)

_ANY = "/(?s:.*)/"
#: What has a meaning in a regex or its class, or ends it.
_SPECIAL = frozenset("\\/^$.|?*+()[]{}-&~#\"' ")


def to_lark(grammar: Grammar, steps: int = 1_000_000) -> str:
    """The text of the grammar. Raises: TooLarge if it takes more steps to make it."""
    grammar = safe(lowered(grammar, lambda part: not holds(part, Multiple)), steps)
    names: dict[Regex, str] = {}
    lines = [f"start: r{grammar.start}"]
    for number, rule in enumerate(grammar.rules):
        ways = (" ".join(_symbol(symbol, names) for symbol in each) or '""' for each in rule)
        lines.append(f"r{number}: {' | '.join(ways)}")
    lines += (f"{name}: {_terminal(part)}" for part, name in names.items())
    return "\n".join(lines) + "\n"


def _symbol(symbol: Regex | Part, names: dict[Regex, str]) -> str:
    if isinstance(symbol, Part):
        return f"r{symbol.rule}{times(symbol.least, symbol.most)}"
    if symbol.nullable and not isinstance(symbol, Rep | Several | Not):
        return '""'
    return names.setdefault(symbol, f"T{len(names)}")


def _terminal(part: Regex) -> str:
    """In the syntax of terminals, where regexes stand between slashes."""
    if part.plain and part is not NOTHING:
        return f"/{_regex(part) or '(?:)'}/"  # two slashes begin a comment
    if part is ANYTHING:
        return _ANY
    if part is NOTHING:
        return f"({_ANY} & ~{_ANY})"
    if isinstance(part, Not):
        # A complement alone would hold bytes that are no text.
        return f"(~({_terminal(part.part)}) & {_ANY})"
    if isinstance(part, Rep):
        return f"({_terminal(part.part)}){times(part.least, part.most)}"
    assert isinstance(part, Several)
    between = " & " if isinstance(part, Both) else " " if isinstance(part, Cat) else " | "
    return f"({between.join(map(_terminal, part.parts))})"


def _regex(part: Regex) -> str:
    """In the syntax of Rust's regexes."""
    if isinstance(part, Literal):
        return "".join(map(_char, part.text))
    if isinstance(part, Chars):
        return f"[{''.join(_ranges(part.ranges))}]"
    if isinstance(part, Rep):
        return f"(?:{_regex(part.part)}){times(part.least, part.most)}"
    assert isinstance(part, Several)
    if isinstance(part, Cat):
        return "".join(map(_regex, part.parts))
    return f"(?:{'|'.join(map(_regex, part.parts))})"


def _ranges(ranges: Ranges) -> Iterator[str]:
    for low, high in ranges:
        yield _char(chr(low)) if low == high else f"{_char(chr(low))}-{_char(chr(high))}"


def _char(char: str) -> str:
    if char in _SPECIAL or not char.isprintable():
        return f"\\x{{{ord(char):x}}}"
    return char
