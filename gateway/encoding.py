"""JSON as it crosses processes: compact, UTF-8."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

import orjson

T = TypeVar("T")

#: How deeply a value that comes from outside may be nested; what lies deeper is null.
MAX_DEPTH = 64


def dumps(value: Any) -> str:
    """Compact JSON, the only format that crosses a process."""
    return orjson.dumps(value).decode()


def loads(text: str | bytes) -> Any:
    """The value of a JSON text."""
    return orjson.loads(text)


def load_as(kind: type[T], text: str | bytes) -> T:
    """A dataclass from a JSON object. Fields that it lacks come from a newer version, which lives side by side."""
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in loads(text).items() if name in names})


def mended(text: str) -> str:
    """A text that is valid Unicode: halves of a surrogate pair are joined where they meet, else each is U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def writable(value: Any, depth: int = MAX_DEPTH) -> Any:
    """The nearest value that `dumps` can write: mended texts, finite numbers of 64 bits, and no endless nesting."""
    if isinstance(value, str):
        return mended(value)
    if isinstance(value, Mapping):
        return {mended(str(key)): writable(inner, depth - 1) for key, inner in value.items()} if depth else None
    if isinstance(value, list | tuple):
        return [writable(inner, depth - 1) for inner in value] if depth else None
    if isinstance(value, int) and not isinstance(value, bool) and not -(2**63) <= value < 2**64:
        value = float(value) if abs(value) < 10**300 else math.inf
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int) else str(value)
