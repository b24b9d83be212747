"""A value that is read again only after a while, because every request needs it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Generic, TypeVar

#: How old such a value may be.
RECENT_S = 0.5
T = TypeVar("T")


class Cached(Generic[T]):
    """Keeps what was read last."""

    def __init__(self) -> None:
        self._read_at = -RECENT_S
        self._value: T

    def get(self, read: Callable[[], T]) -> T:
        """The value, not older than `RECENT_S`."""
        if time.monotonic() > self._read_at + RECENT_S:
            self._value, self._read_at = read(), time.monotonic()
        return self._value
