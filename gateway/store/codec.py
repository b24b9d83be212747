"""JSON as it crosses processes: compact, UTF-8. What is written here can be read here, by every reader.

Clients, providers and models send values that JSON, or one of its readers, can't represent. All of them pass here and
are mended: halves of surrogate pairs are joined, and become U+FFFD if one is alone; bytes become text; a whole number
beyond 64 bits becomes a float, as Lua and JavaScript read it; a number that is not finite becomes null.
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
#: The same for a value from outside; deeper values become null.
MAX_OUTSIDE_DEPTH = 64
#: Largest accepted count of tokens, seconds or events.
MAX_COUNT = 2**53
_MAX_INTEGER = 2**63
#: Numeric keys are written as texts, and numpy's numbers as numbers.
_LENIENT = orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY


class Unwritable(ValueError):
    """A value can't be written as JSON: it has an unknown type, or is nested too deep."""


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
    """Text that can be written as UTF-8: halves of surrogate pairs are joined; a single half becomes U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def writable(value: Any, depth: int = MAX_OUTSIDE_DEPTH) -> Any:
    """The nearest value that can be written and that all readers can use. Never raises."""
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
    """A dataclass from a JSON object. Unknown fields come from a newer version and are ignored.

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
    """A value with everything mended that JSON can't represent. Unknown types stay, and the writer refuses them."""
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
    """A check whether a JSON value has the type of a type hint."""
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
    plain = cast(type, hint)
    return lambda value: isinstance(value, plain)


def is_number(value: Any) -> bool:
    """Whether it is a finite number."""
    return type(value) in (int, float) and math.isfinite(value)


def is_integer(value: Any, low: int = -_MAX_INTEGER, high: int = _MAX_INTEGER - 1) -> bool:
    """Whether it is a whole number from `low` to `high`."""
    return type(value) is int and low <= value <= high


def as_count(value: Any) -> int | None:
    """A count from outside, as a number, a text or a whole float; None if it is not one."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < MAX_COUNT:
        return None
    return int(value)
