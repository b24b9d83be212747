"""Regular languages of text: small trees, each kept once, so that equal ones are the same object.

They know no syntax (`lark.py` and `ebnf.py` write two) and no grammar. Beside sequences, choices and repetitions they
have intersection and complement, and numbers that a number divides: all that derivatives (`derive.py`) can do.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from weakref import WeakValueDictionary

#: All characters but surrogates, which no text has.
UNICODE = ((0, 0xD7FF), (0xE000, 0x10FFFF))

Ranges = tuple[tuple[int, int], ...]


class Regex:
    """One node. Made by the functions of this module only, which keep equal ones once."""

    __slots__ = ("__weakref__", "nullable", "plain", "size")
    #: Whether it holds the empty text.
    nullable: bool
    #: Without intersection and complement: it is empty only if it is NOTHING.
    plain: bool
    #: Nodes of its tree.
    size: int


class Chars(Regex):
    """One character of a class."""

    __slots__ = ("ranges",)

    def __init__(self, ranges: Ranges) -> None:
        self.ranges, self.nullable, self.plain, self.size = ranges, False, True, 1


class Literal(Regex):
    """A text."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text, self.nullable, self.plain, self.size = text, not text, True, 1 + len(text) // 8


class Several(Regex):
    """A node of others: Cat, Alt, Both."""

    __slots__ = ("parts",)

    def __init__(self, parts: tuple[Regex, ...]) -> None:
        self.parts, self.size = parts, 1 + sum(part.size for part in parts)
        self.plain = all(part.plain for part in parts)


class Cat(Several):
    """One after the other."""

    __slots__ = ()

    def __init__(self, parts: tuple[Regex, ...]) -> None:
        super().__init__(parts)
        self.nullable = all(part.nullable for part in parts)


class Alt(Several):
    """One of them; of none it is the empty language."""

    __slots__ = ()

    def __init__(self, parts: tuple[Regex, ...]) -> None:
        super().__init__(parts)
        self.nullable = any(part.nullable for part in parts)


class Both(Several):
    """Texts that all of them hold."""

    __slots__ = ()

    def __init__(self, parts: tuple[Regex, ...]) -> None:
        super().__init__(parts)
        self.nullable, self.plain = all(part.nullable for part in parts), False


class Not(Regex):
    """Texts that it does not hold."""

    __slots__ = ("part",)

    def __init__(self, part: Regex) -> None:
        self.part, self.nullable, self.plain, self.size = part, not part.nullable, False, 1 + part.size


class Rep(Regex):
    """The same `least` to `most` times (None: any number)."""

    __slots__ = ("least", "most", "part")

    def __init__(self, part: Regex, least: int, most: int | None) -> None:
        self.part, self.least, self.most = part, least, most
        self.nullable, self.plain, self.size = least == 0 or part.nullable, part.plain, 1 + part.size


class Multiple(Regex):
    """Digits that make a number which `of` divides, behind digits that left `rest`."""

    __slots__ = ("of", "rest")

    def __init__(self, of: int, rest: int) -> None:
        self.of, self.rest, self.nullable, self.plain, self.size = of, rest, rest == 0, True, 1


_KNOWN: WeakValueDictionary[tuple[object, ...], Regex] = WeakValueDictionary()


def _one(kind: type[Regex], *what: object, key: object = None) -> Regex:
    known = (kind, key) if key is not None else (kind, *what)
    found = _KNOWN.get(known)
    return found if found is not None else _KNOWN.setdefault(known, kind(*what))


#: No text at all, and the empty text.
NOTHING = _one(Alt, ())
EMPTY = _one(Literal, "")


def literal(text: str) -> Regex:
    """That text."""
    return _one(Literal, text)


def chars(ranges: Iterable[tuple[int, int]]) -> Regex:
    """One character of these ranges of code points, both ends included."""
    joined = join(ranges)
    if not joined:
        return NOTHING
    if len(joined) == 1 and joined[0][0] == joined[0][1]:
        return literal(chr(joined[0][0]))
    return _one(Chars, joined)


def one_of(letters: str) -> Regex:
    """One of these characters."""
    return chars((ord(each), ord(each)) for each in letters)


def cat(*parts: Regex) -> Regex:
    """One after the other."""
    flat: list[Regex] = []
    for part in parts:
        for each in part.parts if isinstance(part, Cat) else (part,):
            if each is NOTHING:
                return NOTHING
            if each is EMPTY:
                continue
            last = flat[-1] if flat else None
            if isinstance(last, Literal) and isinstance(each, Literal):
                flat[-1] = literal(last.text + each.text)
            else:
                flat.append(each)
    if not flat:
        return EMPTY
    return flat[0] if len(flat) == 1 else _one(Cat, tuple(flat))


def alt(*parts: Regex) -> Regex:
    """One of them."""
    found: dict[Regex, None] = {}
    ranges: list[tuple[int, int]] = []
    for part in parts:
        for each in part.parts if isinstance(part, Alt) else (part,):
            if each is ANYTHING:
                return ANYTHING
            if (single := ranges_of(each)) is not None:
                ranges += single
            else:
                found[each] = None
    if ranges:
        found[chars(ranges)] = None
    if EMPTY in found and any(each.nullable for each in found if each is not EMPTY):
        del found[EMPTY]
    if len(found) == 1:
        return next(iter(found))
    return _one(Alt, tuple(found), key=frozenset(found)) if found else NOTHING


def rep(part: Regex, least: int = 0, most: int | None = None) -> Regex:
    """The same `least` to `most` times."""
    if part is NOTHING:
        return EMPTY if least == 0 else NOTHING
    if part is EMPTY or most == 0:
        return EMPTY
    if part.nullable:
        least = 0
    if (least, most) == (1, 1):
        return part
    if isinstance(part, Rep) and (part.least, part.most) == (0, None):
        return part
    return _one(Rep, part, least, most)


def both(*parts: Regex) -> Regex:
    """Texts that all of them hold."""
    found: dict[Regex, None] = {}
    for part in parts:
        for each in part.parts if isinstance(part, Both) else (part,):
            if each is NOTHING:
                return NOTHING
            if each is not ANYTHING:
                found[each] = None
    if EMPTY in found:
        return EMPTY if all(each.nullable for each in found) else NOTHING
    classes = [(each, ranges) for each in found if (ranges := ranges_of(each)) is not None]
    if len(classes) > 1:
        common = classes[0][1]
        for each, ranges in classes:
            common = overlap(common, ranges)
            del found[each]
        return both(chars(common), *found)
    if any(negation(each) in found for each in found):
        return NOTHING
    if len(found) == 1:
        return next(iter(found))
    return _one(Both, tuple(found), key=frozenset(found)) if found else ANYTHING


def negation(part: Regex) -> Regex:
    """Texts that it does not hold."""
    return part.part if isinstance(part, Not) else _one(Not, part)


def multiple(of: int, rest: int = 0) -> Regex:
    """Digits that make a number which `of` divides; none make 0."""
    return _one(Multiple, of, rest)


#: Any text.
ANYTHING = negation(NOTHING)


def ranges_of(part: Regex) -> Ranges | None:
    """The class, if it is one character of one."""
    if isinstance(part, Chars):
        return part.ranges
    if isinstance(part, Literal) and len(part.text) == 1:
        return ((ord(part.text), ord(part.text)),)
    return None


def join(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """Ranges in order, without overlaps."""
    found: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if found and low <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(high, found[-1][1]))
        else:
            found.append((low, high))
    return tuple(found)


def overlap(one: Sequence[tuple[int, int]], other: Sequence[tuple[int, int]]) -> Ranges:
    """What two classes have in common."""
    found, i, k = [], 0, 0
    while i < len(one) and k < len(other):
        low, high = max(one[i][0], other[k][0]), min(one[i][1], other[k][1])
        if low <= high:
            found.append((low, high))
        if one[i][1] < other[k][1]:
            i += 1
        else:
            k += 1
    return tuple(found)


def without(one: Sequence[tuple[int, int]], other: Sequence[tuple[int, int]]) -> Ranges:
    """What of a class is not in another."""
    return overlap(one, complement(other))


def complement(ranges: Sequence[tuple[int, int]]) -> Ranges:
    """All other characters."""
    found, begin = [], 0
    for low, high in ranges:
        if begin < low:
            found.append((begin, low - 1))
        begin = high + 1
    if begin <= UNICODE[-1][1]:
        found.append((begin, UNICODE[-1][1]))
    return overlap(found, UNICODE)


def times(least: int, most: int | None) -> str:
    """A repetition as nearly all notations write it, behind what is repeated."""
    if (least, most) == (1, 1):
        return ""
    if most is None:
        return ("*", "+")[least] if least < 2 else f"{{{least},}}"
    return "?" if (least, most) == (0, 1) else f"{{{least},{most}}}"
