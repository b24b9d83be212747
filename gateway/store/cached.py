"""Caches a value for half a second, because every request needs it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Generic, TypeVar

#: Longest age of the value.
RECENT_S = 0.5
T = TypeVar("T")


class Cached(Generic[T]):
    """The last value that was read. While one reads it anew, others have the one before, if that is hardly older."""

    def __init__(self, for_s: float = RECENT_S) -> None:
        self._for_s = for_s
        #: When the value was read, and when the one who reads it now has begun.
        self._read_at = self._begun_at = -math.inf
        self._value: list[T] = []

    @property
    def is_recent(self) -> bool:
        """Whether it need not be read now."""
        now, begun_at = time.monotonic(), self._begun_at
        age_s = now - self._read_at
        return age_s <= self._for_s or (age_s <= 2 * self._for_s and now - begun_at <= self._for_s)

    def get(self, read: Callable[[], T]) -> T:
        """The value, at most so old, or twice that while it is read anew. Raises: what `read` raises."""
        return self._value[0] if self.is_recent else self.renew(read)

    def renew(self, read: Callable[[], T]) -> T:
        """The value, read now. Raises: what `read` raises."""
        self._begun_at = time.monotonic()
        try:
            self._value = [read()]
            self._read_at = time.monotonic()
        finally:
            self._begun_at = -math.inf
        return self._value[0]


class CachedByName(Generic[T]):
    """Values by name: that of one name is read alone, or, by who needs them, all are at once.

    `nothing` is the value of a name that is not among all.
    """

    def __init__(self, read: Callable[[str], T], read_all: Callable[[], Mapping[str, T]], nothing: T) -> None:
        self._read = read
        self._read_all = read_all
        self._nothing = nothing
        self._each: dict[str, Cached[T]] = {}
        self._all: Cached[Mapping[str, T]] = Cached()

    def get(self, name: str) -> T:
        """That of one name. Raises: NOT_NOW."""
        if self._all.is_recent:
            return self._all.get(self._read_all).get(name, self._nothing)
        return self._each.setdefault(name, Cached()).get(lambda: self._read(name))

    def all(self) -> Mapping[str, T]:
        """Those of every name that has one, read now. Raises: NOT_NOW."""
        return self._all.renew(self._read_all)


def by_name(values: Iterable[T], name_of: Callable[[T], str]) -> dict[str, list[T]]:
    """The values that have each name."""
    found: dict[str, list[T]] = {}
    for one in values:
        found.setdefault(name_of(one), []).append(one)
    return found
