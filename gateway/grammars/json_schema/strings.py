"""Strings of a schema: patterns, formats and lengths, first of the texts themselves, then of how JSON writes them."""

from __future__ import annotations

from typing import Any

from gateway.grammars import regex
from gateway.grammars.fuel import Refused
from gateway.grammars.json_schema.formats import FORMATS, UNKNOWN_TO_ALL
from gateway.grammars.json_schema.json_texts import ONE_CHAR, PLAIN, QUOTE, SHORT, STRING
from gateway.grammars.patterns import MAX_TIMES, matching
from gateway.grammars.regex import (
    ANYTHING,
    NOTHING,
    Alt,
    Both,
    Cat,
    Chars,
    Literal,
    Not,
    Regex,
    Rep,
    alt,
    both,
    cat,
    literal,
    negation,
    rep,
)

#: A character of a text, and all texts, as JSON writes them.
_CHAR = alt(regex.chars(PLAIN), *(literal(written) for written in SHORT.values()))
_TEXTS = rep(_CHAR)


def string(schema: dict[str, Any]) -> Regex:
    """The JSON texts of strings that a schema allows. Raises: Refused."""
    texts = texts_of(schema)
    if texts is not None:
        return quoted(texts)
    least, most = length(schema)
    return STRING if (least, most) == (0, None) else cat(QUOTE, rep(ONE_CHAR, least, most), QUOTE)


def quoted(texts: Regex) -> Regex:
    """These texts as JSON strings."""
    return cat(QUOTE, encoded(texts), QUOTE)


def texts_of(schema: dict[str, Any]) -> Regex | None:
    """The texts that a schema allows; None if it only limits their length. Raises: Refused."""
    parts = []
    for pattern in schema.get("pattern", ()):
        parts.append(_found(pattern, "pattern"))
    for name in schema.get("format", ()):
        if name in UNKNOWN_TO_ALL:
            raise Refused(f"{name!r} can't be done; allowed: {', '.join(sorted(FORMATS))}.", keyword="format")
        if name in FORMATS:
            parts.append(FORMATS[name])
    for texts in schema.get("texts", ()):
        parts.append(texts)
    if not parts:
        return None
    least, most = length(schema)
    shortest, longest = extent(parts[0]) if len(parts) == 1 else (0, None)
    if least > shortest or (most is not None and (longest is None or longest > most)):
        parts.append(rep(regex.chars(regex.UNICODE), least, most))
    return both(*parts)


def _found(pattern: Any, keyword: str) -> Regex:
    if not isinstance(pattern, str):
        raise Refused(f"Got {pattern!r:.40}; must be text.", keyword=keyword)
    try:
        return matching(pattern)
    except Refused as error:
        raise error.at((), keyword) if error.place else Refused(error.text, keyword=keyword) from error


def length(schema: dict[str, Any]) -> tuple[int, int | None]:
    """The least and the most characters. Raises: Refused."""
    return counts(schema, "minLength", "maxLength")


def counts(schema: dict[str, Any], lower: str, upper: str) -> tuple[int, int | None]:
    """Two keywords that limit a number of things. Raises: Refused."""
    least, most = natural(schema.get(lower, 0), lower), None
    if upper in schema:
        most = natural(schema[upper], upper)
    if least > MAX_TIMES:
        raise Refused(f"Got {least}; at most {MAX_TIMES} can be done.", keyword=lower)
    if most is not None and most > MAX_TIMES:
        most = MAX_TIMES
    if most is not None and least > most:
        raise Refused(f"Got {least}, which is more than {upper} allows.", keyword=lower)
    return least, most


def natural(value: Any, keyword: str) -> int:
    """A whole number of a schema. Raises: Refused."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value) or value < 0:
        raise Refused(f"Got {value!r:.40}; must be a whole number of 0 or more.", keyword=keyword)
    return int(value)


def extent(part: Regex) -> tuple[int, int | None]:
    """The lengths of the shortest and the longest text; None if there is none, or it is not known."""
    if isinstance(part, Literal):
        return len(part.text), len(part.text)
    if isinstance(part, Chars):
        return 1, 1
    if isinstance(part, Cat | Alt) and part.parts:
        found = [extent(each) for each in part.parts]
        longest = [most for _, most in found if most is not None]
        add = isinstance(part, Cat)
        low = sum(least for least, _ in found) if add else min(least for least, _ in found)
        return low, None if len(longest) < len(found) else sum(longest) if add else max(longest)
    if isinstance(part, Rep):
        least, most = extent(part.part)
        return least * part.least, None if most is None or part.most is None else most * part.most
    return 0, None


def encoded(part: Regex) -> Regex:
    """The inside of JSON strings for these texts. Each character is written in one way, so complements stay exact."""
    if part is ANYTHING:
        return _TEXTS
    if isinstance(part, Literal):
        return cat(*(_char(ord(char)) for char in part.text))
    if isinstance(part, Chars):
        found = regex.chars(regex.overlap(part.ranges, PLAIN))
        escaped = (SHORT[char] for char in SHORT if any(low <= ord(char) <= high for low, high in part.ranges))
        return alt(found, *map(literal, escaped))
    if isinstance(part, Cat):
        return cat(*map(encoded, part.parts))
    if isinstance(part, Alt):
        return alt(*map(encoded, part.parts))
    if isinstance(part, Both):
        return both(*map(encoded, part.parts))
    if isinstance(part, Rep):
        return rep(encoded(part.part), part.least, part.most)
    assert isinstance(part, Not)
    return both(_TEXTS, negation(encoded(part.part)))


def _char(code: int) -> Regex:
    if chr(code) in SHORT:
        return literal(SHORT[chr(code)])
    return literal(chr(code)) if any(low <= code <= high for low, high in PLAIN) else NOTHING
