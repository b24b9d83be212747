"""JSON as it crosses processes: compact, UTF-8. What is written here can be read here, by every reader.

Clients, providers and models bring values that JSON, or one of its readers, lacks. They are mended here, at the one
place that all of them pass: half a surrogate pair is joined with its other half, else it becomes U+FFFD; bytes are
text; a whole number beyond 64 bits is a float, as Lua and JavaScript read it; a number that is not finite is null.
"""

from __future__ import annotations

import functools
import math
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import MISSING, asdict, fields, is_dataclass
from enum import Enum
from typing import Any, TypeVar, cast

import orjson

from gateway.errors import Unreadable

T = TypeVar("T")
#: How deep a value may be nested; orjson writes no more than 254 levels.
MAX_DEPTH = 200
#: The same of a value that comes from outside; what lies deeper is null.
MAX_OUTSIDE_DEPTH = 64
#: The most tokens, seconds or events that are believed.
MAX_COUNT = 2**53
_MAX_INTEGER = 2**63
#: Keys that are numbers, and numpy's numbers, are written as what they look like.
_LENIENT = orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY


class Unwritable(ValueError):
    """A value has no form in JSON: it is of a type that nothing is known of, or nested too deep."""


def dumps(value: Any) -> str:
    """Compact JSON, the only format that crosses a process. Raises: Unwritable."""
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        return _dumps_mended(value)


def loads(text: str | bytes) -> Any:
    """The value of a JSON text. Raises: ValueError."""
    return orjson.loads(text)


def mended(text: str) -> str:
    """Text that can be written as UTF-8: halves of surrogate pairs are joined, and become U+FFFD where one is alone."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def writable(value: Any, depth: int = MAX_OUTSIDE_DEPTH) -> Any:
    """The nearest value that all readers can use, of one that comes from outside: whatever it is, it has a form."""
    if isinstance(value, str):
        return mended(value)
    if isinstance(value, Mapping):
        return {mended(str(key)): writable(inner, depth - 1) for key, inner in value.items()} if depth else None
    if isinstance(value, list | tuple):
        return [writable(inner, depth - 1) for inner in value] if depth else None
    if isinstance(value, int) and not isinstance(value, bool) and not -_MAX_INTEGER <= value < _MAX_INTEGER:
        value = _as_float(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int) else str(value)


def load_as(kind: type[T], text: str | bytes) -> T:
    """A dataclass from a JSON object. Fields that it lacks come from a newer version, which lives side by side.

    Raises:
        Unreadable: it is no JSON object, or a field is missing or of another type than the dataclass says.
    """
    try:
        value = loads(text)
    except ValueError as error:
        raise Unreadable(f"It is no JSON: {error}.") from error
    return build(kind, value)


def build(kind: type[T], value: Any) -> T:
    """The same from the object itself. Raises: Unreadable."""
    if not isinstance(value, Mapping):
        raise Unreadable(f"It is {type(value).__name__}, not an object.")
    found: dict[str, Any] = {}
    for name, (fits, is_tuple, required) in _shape(cast(Any, kind)).items():
        if name not in value:
            if required:
                raise Unreadable(f"The field {name!r} is missing.")
        elif not fits(value[name]):
            raise Unreadable(f"The field {name!r} is {value[name]!r:.80}, which it can't be.")
        else:
            found[name] = tuple(value[name]) if is_tuple else value[name]
    return kind(**found)


def _dumps_mended(value: Any) -> str:
    try:
        return orjson.dumps(_mended(value, MAX_DEPTH), option=_LENIENT).decode()
    except TypeError as error:
        raise Unwritable(f"This can't be written as JSON: {error}") from error


def _mended(value: Any, depth: int) -> Any:
    """A value without what JSON lacks. What nothing is known of stays as it is, and is refused by the writer."""
    if depth <= 0:
        raise Unwritable(f"This is nested more than {MAX_DEPTH} levels deep.")
    match value:
        case Enum():
            return _mended(value.value, depth - 1)
        case str():
            return mended(value)
        case bool():
            return value
        case int():
            return value if -_MAX_INTEGER <= value < _MAX_INTEGER else _as_float(value)
        case bytes() | bytearray() | memoryview():
            return bytes(value).decode(errors="replace")
        case Mapping():
            return {mended(str(name)): _mended(inner, depth - 1) for name, inner in value.items()}
        case list() | tuple() | AbstractSet():
            return [_mended(inner, depth - 1) for inner in value]
    if is_dataclass(value) and not isinstance(value, type):
        return _mended(asdict(value), depth - 1)
    return value


def _as_float(value: int) -> float | None:
    try:
        return float(value)
    except OverflowError:
        return None


@functools.cache
def _shape(kind: type[Any]) -> dict[str, tuple[Callable[[Any], bool], bool, bool]]:
    """For each field of a dataclass: whether a value fits, whether it is a tuple, and whether it must be there."""
    hints = typing.get_type_hints(kind)
    return {
        field.name: (
            _fitting(hints[field.name]),
            typing.get_origin(hints[field.name]) is tuple,
            field.default is MISSING and field.default_factory is MISSING,
        )
        for field in fields(kind)
    }


def _fitting(hint: Any) -> Callable[[Any], bool]:
    """Whether a value of JSON is of the type that a hint says."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any or hint is object:
        return lambda _: True
    if origin in (typing.Union, types.UnionType):
        choices = [_fitting(one) for one in inner]
        return lambda value: any(fits(value) for fits in choices)
    if hint is float:
        return is_number
    if hint is int:
        return is_integer
    if isinstance(origin, type) and issubclass(origin, Mapping):
        each = _fitting(inner[1])
        return lambda value: isinstance(value, dict) and all(map(each, value.values()))
    if isinstance(origin, type) and issubclass(origin, Iterable):
        each = _fitting(inner[0])
        return lambda value: isinstance(value, list | tuple) and all(map(each, value))
    return lambda value: isinstance(value, cast(type, hint))


def is_number(value: Any) -> bool:
    """Whether it is a finite number."""
    return type(value) in (int, float) and math.isfinite(value)


def is_integer(value: Any, low: int = -_MAX_INTEGER, high: int = _MAX_INTEGER - 1) -> bool:
    """Whether it is a whole number from `low` to `high`."""
    return type(value) is int and low <= value <= high


def as_count(value: Any) -> int | None:
    """A number that others count with, also as a text or a whole float; None if it is none."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < MAX_COUNT:
        return None
    return int(value)
