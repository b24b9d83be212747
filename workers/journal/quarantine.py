"""Jobs that may kill whoever runs them wait for their turn here, without a thread or a place that others could use."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

#: A job that so many engines or workers have died of is under suspicion.
SUSPECT_CRASHES = 2


class Turnstile:
    """Lets so many suspects through at once. `call` is told whose turn it is when one of them has left."""

    def __init__(self, count: int, call: Callable[[str], None]) -> None:
        self._free = count
        self._call = call
        self._waiting: dict[str, None] = {}
        self._lock = threading.Lock()

    @contextmanager
    def turn(self, job_id: str) -> Iterator[bool]:
        """Whether it is this job's turn now. If not, it is remembered, and called later."""
        with self._lock:
            mine = self._free > 0
            if mine:
                self._free -= 1
                self._waiting.pop(job_id, None)
            else:
                self._waiting.setdefault(job_id)
        try:
            yield mine
        finally:
            if mine:
                self._leave()

    def _leave(self) -> None:
        with self._lock:
            self._free += 1
            following = next(iter(self._waiting), None)
            if following is not None:
                del self._waiting[following]
        if following is not None:
            self._call(following)
