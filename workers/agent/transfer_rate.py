"""How fast a download is, and how long the rest of it takes."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

#: The rate is measured over this many seconds.
WINDOW_S = 10.0


class TransferRate:
    """Bytes that are here, over the last seconds. What was here at the beginning counts for no rate."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()
        self._told_at = 0.0
        self._total = 0

    def take(self, done: int, total: int, *, every_s: float) -> bool:
        """Note the bytes that are here. Returns whether it is time to tell somebody."""
        now = time.monotonic()
        self._total = total
        self._seen.append((now, done))
        while len(self._seen) > 2 and self._seen[0][0] < now - WINDOW_S:
            self._seen.popleft()
        if now < self._told_at + every_s and done < total:
            return False
        self._told_at = now
        return True

    def to_public(self) -> dict[str, Any]:
        """Bytes, bytes a second, and seconds that are left; null while that is not known."""
        if not self._seen:
            return {}
        (began, first), (now, done) = self._seen[0], self._seen[-1]
        rate = (done - first) / (now - began) if now > began else 0.0
        return {
            "bytes_done": done,
            "bytes_total": self._total,
            "bytes_per_second": int(rate) or None,
            "eta_s": round((self._total - done) / rate, 1) if rate > 0 else None,
        }
