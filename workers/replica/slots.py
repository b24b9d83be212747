"""The slots of a batch: who may add how many sequences to it, and when. Knows no job and no engine."""

from __future__ import annotations

import threading
from collections import deque


class Slots:
    """The slots of one batch, one a sequence. A job larger than the batch takes all of it.

    First come, first served: a job that needs many waits for those before it, and those behind it wait for it.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self._free = total
        self._waiting: deque[object] = deque()
        self._changed = threading.Condition()

    def take(self, count: int) -> int:
        """Wait for `count` free slots. Returns how many were taken. Waits without a time-out."""
        wanted, ticket = min(count, self.total), object()
        with self._changed:
            self._waiting.append(ticket)
            self._changed.wait_for(lambda: self._waiting[0] is ticket and self._free >= wanted)
            self._waiting.popleft()
            self._free -= wanted
            self._changed.notify_all()  # the next may have room as well
        return wanted

    def give_back(self, count: int) -> None:
        """Free slots again."""
        with self._changed:
            self._free += count
            self._changed.notify_all()
