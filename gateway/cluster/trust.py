"""Whether missing heartbeats and expired leases in Redis prove anything now. Knows no jobs.

Other processes refresh heartbeats, client leases and progress through Redis, by its clock. That one is old proves
something only if Redis could be reached long enough for the others to refresh it, and if its clock did not jump. Slow
work of our own process is no gap; a pause in which it did not run at all is.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

log = logging.getLogger("headrace.keeper")

#: A longer pause between two ticks is a gap: this process was suspended, and so may be all others.
GAP_S = 3.0
#: How much Redis' clock may differ from the steady one between two observations.
JUMP_S = 1.5


class Trust:
    """Since when Redis has been reachable without a gap. `clock` is steady, in seconds; `since` is by that clock."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, *, since: float | None = None) -> None:
        self._clock = clock
        self._since = clock() if since is None else since
        self._ticked_at = clock()
        self._run_id = ""
        self._why = ""
        #: (steady clock in s, Redis' clock in ms) at the last comparison; then when Redis' clock last jumped.
        self._compared: tuple[float, int] | None = None
        self._jumped_at: float | None = None

    def tick(self) -> None:
        """Note that this process runs. Called often, also during long work."""
        now = self._clock()
        if now - self._ticked_at > GAP_S:
            self.lose(f"this process was stopped for {now - self._ticked_at:.0f} s")
        self._ticked_at = now

    def observe(self, run_id: str, redis_ms: int) -> None:
        """Note that Redis has answered: which process it is, and what its clock says."""
        now = self._clock()
        if self._run_id not in ("", run_id):
            self.lose("Redis is another process")
        if self._compared is not None:
            then, then_ms = self._compared
            jump_s = (redis_ms - then_ms) / 1000 - (now - then)
            if abs(jump_s) > JUMP_S:
                self._jumped_at = now
                self.lose(f"Redis' clock has jumped by {jump_s:.0f} s")
        self._run_id, self._compared, self._why = run_id, (now, redis_ms), ""

    def lose(self, why: str) -> None:
        """Start again with no trust."""
        if why != self._why:
            log.warning("nothing is judged for a while: %s", why)
        self._why = why
        self._since = self._clock()

    def held_for(self, seconds: float) -> bool:
        """Whether Redis was reachable and its clock steady for that long."""
        return self._clock() - self._since > seconds

    def age_s(self, now_ms: int, since_ms: int) -> float:
        """How long ago something was by Redis' clock, but at most the time since that clock last jumped.

        A time in the future was written before the clock was put back.
        """
        age_s = (now_ms - since_ms) / 1000
        if self._jumped_at is None:
            return max(0.0, age_s)
        since_jump_s = self._clock() - self._jumped_at
        return min(age_s, since_jump_s) if age_s >= 0 else since_jump_s
