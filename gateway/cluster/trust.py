"""Whether what Redis shows of others can be judged now. Knows no jobs.

Heartbeats, attendance and progress are refreshed by others, through Redis and by its clock. They mean something only
when Redis could be reached for long enough that the others could have refreshed them; and when its clock jumps, ages
mean nothing. Our own slowness is no gap: what counts is how long we did not look at all.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

log = logging.getLogger("headrace.keeper")

#: A pause of this process between two ticks that is longer is a gap: it was stopped, and so may be all others.
GAP_S = 3.0
#: Redis' clock may differ from the steady one by so much between two looks.
JUMP_S = 1.5


class Trust:
    """Since when Redis is reached without a break. `clock` is steady, in seconds; `since` is by that clock."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, *, since: float | None = None) -> None:
        self._clock = clock
        self._since = clock() if since is None else since
        self._ticked_at = clock()
        self._run_id = ""
        self._why = ""
        #: (steady clock in s, Redis' clock in ms) as they were last compared, and when the latter has jumped last.
        self._compared: tuple[float, int] | None = None
        self._jumped_at: float | None = None

    def tick(self) -> None:
        """Say that this process is at work. Called often, also within long work."""
        now = self._clock()
        if now - self._ticked_at > GAP_S:
            self.lose(f"this process was stopped for {now - self._ticked_at:.0f} s")
        self._ticked_at = now

    def observe(self, run_id: str, redis_ms: int) -> None:
        """Redis has answered: it is that process, and its clock says so."""
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
        """Judge nothing for a while."""
        if why != self._why:
            log.warning("nothing is judged for a while: %s", why)
        self._why = why
        self._since = self._clock()

    def held_for(self, seconds: float) -> bool:
        """Whether Redis could be reached, and its clock believed, for so long."""
        return self._clock() - self._since > seconds

    def age_s(self, now_ms: int, since_ms: int) -> float:
        """How long ago something was by Redis' clock, but never longer than since that clock has jumped.

        What is in the future was set by a clock that was put back.
        """
        age_s = (now_ms - since_ms) / 1000
        if self._jumped_at is None:
            return max(0.0, age_s)
        since_jump_s = self._clock() - self._jumped_at
        return min(age_s, since_jump_s) if age_s >= 0 else since_jump_s
