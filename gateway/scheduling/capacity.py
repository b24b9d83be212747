"""How fast a model gets through its jobs, and how long one waits that is so far behind. Pure.

Replicas measure how many slots jobs of a kind get, and for how long such a job holds them. What they have free now is
as old as their heartbeat.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

#: The weight of the last job in the mean.
WEIGHT = 0.1
#: How many slots jobs get is a mean over about so many seconds: it falls slowly, since others come and go, and rises
#: fast, since others that have gone leave all of theirs.
FALL_S, RISE_S = 10.0, 3.0
#: A wait that was promised is one that is expected to be shorter by this factor.
MARGIN = 0.8
#: Nobody can tell what is farther away, in seconds.
LONGEST_S = 86_400.0


class ServiceTime:
    """The slots times seconds that a job takes until it ends: a mean, in which the last jobs count most."""

    def __init__(self) -> None:
        self._slot_s = self._ended = 0.0

    def count(self, slot_s: float, *, ended: bool = True) -> None:
        """A job has held its slots for so long: slots times seconds. It has ended, or will go on later."""
        if ended:
            self._slot_s *= 1 - WEIGHT
            self._ended = self._ended * (1 - WEIGHT) + 1
        if self._ended:  # before, nobody knows of how many jobs that is a part
            self._slot_s += slot_s

    @property
    def mean_s(self) -> float:
        """0 until a job has ended."""
        return self._slot_s / self._ended if self._ended else 0.0


class SlotMean:
    """How many slots jobs of a kind get, as a mean over the last seconds: it follows each sample by a part only."""

    def __init__(self, slots: float) -> None:
        self.mean = slots
        self._noted_s: float | None = None

    def note(self, now_s: float, slots: float) -> None:
        """They get so many now, or would. `now_s` is of any steady clock."""
        if self._noted_s is not None:
            memory_s = RISE_S if slots > self.mean else FALL_S
            self.mean += (slots - self.mean) * (1 - math.exp((self._noted_s - now_s) / memory_s))
        self._noted_s = now_s


@dataclass(frozen=True)
class Capacity:
    """Of all replicas of a model, for interactive or for background jobs."""

    #: Those that such jobs get while some of them wait.
    slots: float
    free: int
    #: Slots times seconds of a job; 0: none has ended yet.
    slot_s: float
    #: Jobs of the other kind that wait before them; what these get is not in `slots`.
    others: int = 0

    @property
    def per_second(self) -> float:
        """Jobs that begin, and end, in a second while others wait; 0 if that is not known."""
        return self.slots / self.slot_s if self.slot_s else 0.0

    def wait_s(self, position: int) -> float | None:
        """How long a job at this position of the line is expected to wait; None if that is not known.

        0 only if a slot is free for it.
        """
        if position <= self.free:
            return 0.0
        behind = max(1, position - self.others - self.free)
        wait_s = behind / self.per_second if self.per_second else math.inf
        return wait_s if wait_s <= LONGEST_S else None

    def last_position(self, timeout_s: float) -> int:
        """The last position from which a job is expected to begin in time; 0 if that is not known."""
        if not self.per_second:
            return 0
        return max(1, self.free + math.floor(timeout_s * self.per_second * MARGIN))
