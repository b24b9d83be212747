"""What lies in Redis and can't be read: left out where many are read, said once in the log, and told by the doctor."""

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
#: Things that are remembered; then the oldest are said again.
REMEMBERED = 10_000
#: What this process has found to be unreadable, and why, since it could be read last.
_found: dict[str, str] = {}


def readable(values: Iterable[tuple[str, S]], read: Callable[[S], T]) -> Iterator[tuple[str, T]]:
    """What can be read of named values. A value may be the error that Redis has answered with.

    Raises: NOT_NOW, where that error is a matter of waiting.
    """
    for name, value in values:
        with leaving_out(name):
            if isinstance(value, Exception):
                raise value
            yield name, read(value)


@contextlib.contextmanager
def leaving_out(name: str) -> Iterator[None]:
    """Around the reading of one thing: if it can't be read, that is noted, and the others are read."""
    try:
        with reading(name):
            yield
        _found.pop(name, None)
    except Unreadable as error:
        note(name, error)


@contextlib.contextmanager
def reading(name: str) -> Iterator[None]:
    """Around the reading of one thing. Raises: Unreadable, which names it, also where Redis has another type there."""
    try:
        yield
    except Unreadable as error:
        raise Unreadable(f"{name} can't be read. {error.message}") from error
    except redis.exceptions.ResponseError as error:
        if not is_lasting(error):
            raise
        raise Unreadable(f"{name} can't be read. Redis says: {str(error).rstrip('.')}.") from error


def note(name: str, error: Unreadable) -> None:
    """Say it, unless that was done already."""
    if _found.get(name) == error.message:
        return
    log.error("%s", error.message)
    while len(_found) >= REMEMBERED:
        _found.pop(next(iter(_found)))
    _found[name] = error.message


def found() -> list[str]:
    """All that this process could not read when it tried last."""
    return list(_found.values())
