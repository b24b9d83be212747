"""Values in Redis that can't be read: skipped where many are read, logged once, and listed by `headrace doctor`."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import redis

from gateway.errors import Unreadable
from gateway.store.connection import is_lasting

log = logging.getLogger(__name__)

S = TypeVar("S")
T = TypeVar("T")
#: How many values are remembered; beyond that the oldest are forgotten, and logged again.
REMEMBERED = 10_000
#: The names of values that this process could not read the last time, and why.
_found: dict[str, str] = {}


def readable(values: Iterable[tuple[str, S]], read: Callable[[S], T]) -> Iterator[tuple[str, T]]:
    """The named values that can be read. A value may be an error reply of Redis.

    Raises: NOT_NOW, if such an error will pass.
    """
    for name, value in values:
        with leaving_out(name):
            if isinstance(value, Exception):
                raise value
            yield name, read(value)


@contextlib.contextmanager
def leaving_out(name: str) -> Iterator[None]:
    """Context of reading one value: if it can't be read, that is noted, and the caller continues."""
    try:
        with reading(name):
            yield
        _found.pop(name, None)
    except Unreadable as error:
        note(name, error)


@contextlib.contextmanager
def reading(name: str) -> Iterator[None]:
    """Context of reading one value. Raises: Unreadable with its name, also if Redis has another type there."""
    try:
        yield
    except Unreadable as error:
        raise Unreadable(f"{name} can't be read. {error.message}") from error
    except redis.exceptions.ResponseError as error:
        if not is_lasting(error):
            raise
        raise Unreadable(f"{name} can't be read. Redis says: {str(error).rstrip('.')}.") from error


def note(name: str, error: Unreadable) -> None:
    """Log a value that can't be read, once."""
    if _found.get(name) == error.message:
        return
    log.error("%s", error.message)
    while len(_found) >= REMEMBERED:
        _found.pop(next(iter(_found)))
    _found[name] = error.message


def found() -> list[str]:
    """All values that this process could not read at its last try."""
    return list(_found.values())
