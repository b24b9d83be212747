"""JSON as it crosses processes: compact, UTF-8."""

from __future__ import annotations

from typing import Any

import orjson


def dumps(value: Any) -> str:
    """Compact JSON, the only format that crosses a process."""
    return orjson.dumps(value).decode()


def loads(text: str | bytes) -> Any:
    """The value of a JSON text."""
    return orjson.loads(text)
