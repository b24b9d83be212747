"""Limits how many requests of one API key are open at this process, so that no key can use up all its capacity."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable

from gateway.errors import QueueFull

#: When a key that is at its limit may try again, in seconds.
RETRY_S = 1.0


class Shares:
    """Counts open requests by key. `most` = 0: no limit."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: Counter[str] = Counter()
        self._lock = threading.Lock()

    def take(self, key_id: str) -> Callable[[], None]:
        """Count one more request. Returns the function that uncounts it, which acts only once. Raises: QueueFull."""
        with self._lock:
            if 0 < self._most <= self._open[key_id]:
                raise QueueFull(
                    f"{self._most} requests of this key are open at this server, which is the limit. Wait until "
                    "one has ended.",
                    reason="too_many_streams",
                    retry_after_s=RETRY_S,
                )
            self._open[key_id] += 1
        taken = [key_id]

        def give_back() -> None:
            with self._lock:
                if taken:
                    self._open[taken.pop()] -= 1

        return give_back

    def open(self, key_id: str) -> int:
        """How many requests of a key are open."""
        with self._lock:
            return self._open[key_id]
