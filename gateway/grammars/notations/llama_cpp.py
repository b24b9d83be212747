"""GBNF, as llama.cpp writes it, and xgrammar's EBNF: `root ::= "a" [0-9]+ other`."""

from __future__ import annotations

import re

from gateway.grammars import regex
from gateway.grammars.fuel import Refused
from gateway.grammars.grammar import Grammar
from gateway.grammars.notations.expressions import Choice, Expression, Name, Sequence, grammar_from, repeated
from gateway.grammars.notations.tokens import Cursor, Token, tokens, unescaped
from gateway.grammars.regex import Regex

_KINDS = {
    "skip": r"[ \t\r\n]+|#[^\n]*|//[^\n]*",
    "define": r"::=",
    "text": r'"(?:[^"\\\n]|\\.)*"',
    "klass": r"\[(?:[^\]\\\n]|\\.)*\]",
    "name": r"[a-zA-Z_][a-zA-Z0-9_.-]*",
    "times": r"\{[ ]*[0-9]*[ ]*(?:,[ ]*[0-9]*)?[ ]*\}",
    "sign": r"[|()*+?.]",
}
_CLASS = re.compile(
    r"(\\(?:x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)|[^\\])(?:-(?!$)(\\(?:x..|u....|U.{8}|.)|[^\\]))?",
    re.DOTALL,
)
#: How deeply groups may be nested.
_DEPTH = 60


def read_gbnf(text: str) -> Grammar:
    """Raises: Refused."""
    cursor = Cursor(tokens(text, _KINDS))
    named: dict[str, Expression] = {}
    while cursor.peek().kind != "end":
        name = cursor.take()
        if name.kind != "name" or cursor.peek().kind != "define":
            raise Refused(f"Got {name.text[:20]!r}; expected NAME ::= …", place=f"line {name.line}")
        cursor.take()
        if name.text in named:
            raise Refused(f"{name.text!r} is there twice.", place=f"line {name.line}")
        named[name.text] = _choice(cursor, 0)
    return grammar_from(named, "root")


def _choice(cursor: Cursor, depth: int) -> Expression:
    if depth > _DEPTH:
        raise cursor.unexpected("groups are nested too deeply")
    ways = [_sequence(cursor, depth)]
    while cursor.took("|"):
        ways.append(_sequence(cursor, depth))
    return ways[0] if len(ways) == 1 else Choice(tuple(ways))


def _sequence(cursor: Cursor, depth: int) -> Expression:
    parts: list[Expression] = []
    while True:
        token = cursor.peek()
        if token.kind == "end" or (token.kind == "sign" and token.text in "|)"):
            break
        if token.kind == "name" and cursor.peek(1).kind == "define":
            break
        part = _one(cursor, depth)
        while (times := _times(cursor)) is not None:
            part = repeated(part, *times, token.line)
        parts.append(part)
    return parts[0] if len(parts) == 1 else Sequence(tuple(parts))


def _one(cursor: Cursor, depth: int) -> Expression:
    if cursor.took("("):
        found = _choice(cursor, depth + 1)
        cursor.expect(")")
        return found
    if cursor.took("."):
        return regex.chars(regex.UNICODE)
    token = cursor.peek()
    if token.kind == "text":
        return regex.literal(unescaped(cursor.take().text[1:-1], token.line))
    if token.kind == "klass":
        return _class(cursor.take())
    if token.kind == "name":
        return Name(cursor.take().text, token.line)
    raise cursor.unexpected("expected a text, a class, a name or a group")


def _times(cursor: Cursor) -> tuple[int, int | None] | None:
    for sign, times in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
        if cursor.took(sign):
            return times
    if cursor.peek().kind != "times":
        return None
    least, comma, most = cursor.take().text.strip("{} ").replace(" ", "").partition(",")
    low = int(least[:9] or 0)
    return low, low if not comma else int(most[:9]) if most else None


def _class(token: Token) -> Regex:
    inside = token.text[1:-1]
    negated = inside.startswith("^")
    ranges = []
    for match in _CLASS.finditer(inside[negated:]):
        low = unescaped(match[1], token.line)
        high = unescaped(match[2], token.line) if match[2] else low
        if ord(low) > ord(high):
            raise Refused(f"{match.group()!r} is no range.", place=f"line {token.line}")
        ranges.append((ord(low), ord(high)))
    joined = regex.join(ranges)
    return regex.chars(regex.complement(joined) if negated else regex.overlap(joined, regex.UNICODE))
