"""Caches a value for half a second, because every request needs it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Generic, TypeVar

#: Longest age of the value.
RECENT_S = 0.5
T = TypeVar("T")


class Cached(Generic[T]):
    """The last value that was read."""

    def __init__(self) -> None:
        self._read_at = -RECENT_S
        self._value: T

    def get(self, read: Callable[[], T]) -> T:
        """The value, at most `RECENT_S` old."""
        if time.monotonic() > self._read_at + RECENT_S:
            self._value, self._read_at = read(), time.monotonic()
        return self._value
