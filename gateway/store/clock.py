"""Redis' clock, which is the same for all processes."""

from __future__ import annotations

import time

import redis

#: How often the difference between Redis' clock and ours is measured again.
CLOCK_CHECK_S = 10.0


class Clock:
    """Times in ms since the epoch. Every method may raise NOT_NOW (`gateway/store/connection.py`)."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client
        self._offset_ms, self._checked = 0.0, -CLOCK_CHECK_S

    def now_ms(self) -> int:
        """Redis' clock, the only one that leases use. A round trip."""
        seconds, micros = self._redis.time()
        return int(seconds) * 1000 + int(micros) // 1000

    def estimated_now_ms(self) -> int:
        """Redis' clock, estimated from this host's steady one: for order and statistics, never for a lease."""
        now = time.monotonic()
        if now > self._checked + CLOCK_CHECK_S:
            self._offset_ms, self._checked = self.now_ms() - now * 1000, now
        return int(now * 1000 + self._offset_ms)
