"""The slots of a batch: how many sequences may join it, and when. Knows no job and no engine."""

from __future__ import annotations

import threading
from collections import deque


class Slots:
    """The slots of one batch, one for each sequence. A job larger than the batch takes all of it.

    Strictly first come, first served: a job that needs many slots waits for earlier jobs, and later ones wait for it,
    even if there is room for them. So no job starves.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self._free = total
        self._waiting: deque[object] = deque()
        self._changed = threading.Condition()

    def take(self, count: int) -> int:
        """Take `count` slots, or all if there are fewer. Blocks without a time-out. Returns how many were taken."""
        wanted, ticket = min(count, self.total), object()
        with self._changed:
            self._waiting.append(ticket)
            self._changed.wait_for(lambda: self._waiting[0] is ticket and self._free >= wanted)
            self._waiting.popleft()
            self._free -= wanted
            self._changed.notify_all()  # there may be room for the next one
        return wanted

    def give_back(self, count: int) -> None:
        """Free slots again."""
        with self._changed:
            self._free += count
            self._changed.notify_all()
