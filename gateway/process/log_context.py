"""What the log lines of a thread, greenlet or task are about: the ids of a request, and of its job."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar

#: The ids that a log line may have, in their order there.
IDS = ("request_id", "job_id", "claim_id", "model", "key_id", "trace_id")

#: Threads that work for one request have copies of its context, and so share this dictionary.
_ids: ContextVar[dict[str, str] | None] = ContextVar("ids", default=None)


def current() -> Mapping[str, str]:
    """The ids of this context."""
    return _ids.get() or {}


def request_id() -> str:
    """The id of this context's request; empty: there is none."""
    return current().get("request_id", "")


def begin(**ids: str) -> None:
    """From now on lines of this context have these ids, and no others."""
    _ids.set(ids)


def clear() -> None:
    """From now on lines of this context have no ids."""
    _ids.set(None)


def note(**ids: str) -> None:
    """Add what has become known of the request that this context began with; nothing if it began with none."""
    known = _ids.get()
    if known is not None:
        known.update(ids)


@contextlib.contextmanager
def about(ids: Mapping[str, str]) -> Iterator[None]:
    """Context in which lines have these ids, too."""
    token = _ids.set({**current(), **ids})
    try:
        yield
    finally:
        _ids.reset(token)
