"""JSON as it crosses processes: compact, UTF-8."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, TypeVar

import orjson

T = TypeVar("T")


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
