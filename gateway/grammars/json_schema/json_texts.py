"""The pieces of JSON texts. White space is bounded: a model could go on with it for ever."""

from __future__ import annotations

import json
from typing import Any

from gateway.grammars import regex
from gateway.grammars.regex import Regex, alt, cat, literal, rep

#: Digits of a whole number, of a fraction, and of an exponent: few enough to be exact in every reader.
INTEGER_DIGITS, FRACTION_DIGITS, EXPONENT_DIGITS = 15, 15, 2
#: Spaces of an indentation.
_INDENT = 16

DIGIT = regex.chars([(ord("0"), ord("9"))])
_NONZERO = regex.chars([(ord("1"), ord("9"))])
_LINE = cat(literal("\n"), rep(literal(" "), 0, _INDENT))
_GAP = alt(_LINE, literal(" "))

COLON = cat(literal(":"), rep(literal(" "), 0, 1))
COMMA = cat(literal(","), rep(_GAP, 0, 1))
OPEN_OBJECT, OPEN_ARRAY = cat(literal("{"), rep(_GAP, 0, 1)), cat(literal("["), rep(_GAP, 0, 1))
CLOSE_OBJECT, CLOSE_ARRAY = cat(rep(_GAP, 0, 1), literal("}")), cat(rep(_GAP, 0, 1), literal("]"))
EMPTY_OBJECT, EMPTY_ARRAY = literal("{}"), literal("[]")

#: The characters that stand for themselves, and those that are written with a backslash.
PLAIN = regex.without(regex.UNICODE, regex.join([(0, 0x1F), (ord('"'), ord('"')), (ord("\\"), ord("\\"))]))
SHORT = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f"}
#: Every character that a text may hold; other control characters are left out.
TEXT = regex.join([*PLAIN, *((ord(char), ord(char)) for char in SHORT)])

ONE_CHAR = alt(regex.chars(PLAIN), cat(literal("\\"), regex.one_of('"\\nrtbf/')))
QUOTE = literal('"')
STRING = cat(QUOTE, rep(ONE_CHAR), QUOTE)
INTEGER = cat(rep(literal("-"), 0, 1), alt(literal("0"), cat(_NONZERO, rep(DIGIT, 0, INTEGER_DIGITS - 1))))
NUMBER = cat(
    INTEGER,
    rep(cat(literal("."), rep(DIGIT, 1, FRACTION_DIGITS)), 0, 1),
    rep(cat(regex.one_of("eE"), rep(regex.one_of("+-"), 0, 1), rep(DIGIT, 1, EXPONENT_DIGITS)), 0, 1),
)


def written(value: Any) -> Regex:
    """A scalar as we write it."""
    return literal(dumped(value))


def dumped(value: Any) -> str:
    """A value as JSON."""
    return json.dumps(value, ensure_ascii=False)
