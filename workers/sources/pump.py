"""Runs slow calls of libraries in a thread, so that a cancellation takes effect within a fraction of a second.

The thread writes nothing, so the caller can clean up at once; it ends when its network answers or times out.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any, TypeVar

from gateway.deployments.reasons import FailureReason, SourceFailed

T = TypeVar("T")

#: How often `is_cancelled` is called while no item comes.
POLL_S = 0.1
#: Items in the buffer.
DEPTH = 16


def pumped(items: Iterator[T], is_cancelled: Callable[[], bool]) -> Generator[T, None, None]:
    """Yields the items of an iterator that runs in a thread of its own.

    Raises:
        SourceFailed: CANCELLED; or whatever the iterator raises.
    """
    made: queue.Queue[tuple[str, Any]] = queue.Queue(DEPTH)
    left = threading.Event()
    thread = threading.Thread(target=_pump, args=(items, made, left), name="source", daemon=True)
    thread.start()
    try:
        while True:
            check(is_cancelled)
            try:
                kind, value = made.get(timeout=POLL_S)
            except queue.Empty:
                continue
            if kind == "end":
                return
            if kind == "error":
                raise value
            yield value
    finally:
        left.set()


def run(call: Callable[[], T], is_cancelled: Callable[[], bool]) -> T:
    """The result of a call that is made in a thread of its own. Raises: as `pumped` does."""
    return next(pumped(iter_call(call), is_cancelled))


def iter_call(call: Callable[[], T]) -> Iterator[T]:
    """A call as an iterator of one item."""
    yield call()


def wait(seconds: float, is_cancelled: Callable[[], bool]) -> None:
    """Raises: SourceFailed (CANCELLED)."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        check(is_cancelled)
        time.sleep(min(left, POLL_S))


def check(is_cancelled: Callable[[], bool]) -> None:
    """Raises: SourceFailed (CANCELLED)."""
    if is_cancelled():
        raise SourceFailed(FailureReason.CANCELLED, "Cancelled while the files were fetched.")


def _pump(items: Iterator[Any], made: queue.Queue[tuple[str, Any]], left: threading.Event) -> None:
    try:
        for item in items:
            if not _put(made, ("item", item), left):
                return
        _put(made, ("end", None), left)
    except Exception as error:  # noqa: BLE001 - the edge of a thread: it is raised where the items are taken
        _put(made, ("error", error), left)
    finally:
        close = getattr(items, "close", None)
        if close:
            close()


def _put(made: queue.Queue[tuple[str, Any]], item: tuple[str, Any], left: threading.Event) -> bool:
    """Put an item. Returns False if the consumer has left."""
    while not left.is_set():
        try:
            made.put(item, timeout=POLL_S)
            return True
        except queue.Full:
            continue
    return False
