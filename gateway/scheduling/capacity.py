"""How fast a model gets through its jobs, and how long one waits that is so far behind. Pure.

The time a job holds its slots is measured by the replicas. What they have free now is as old as their heartbeat.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

#: The weight of the last job in the mean.
WEIGHT = 0.1
#: A wait that was promised is one that is expected to be shorter by this factor.
MARGIN = 0.8


class ServiceTime:
    """A mean over jobs that have ended, in slots times seconds of each. The last ones count most."""

    def __init__(self) -> None:
        self.mean_s = 0.0

    def count(self, slot_s: float) -> None:
        """A job has held its slots for so long: slots times seconds."""
        self.mean_s += (slot_s - self.mean_s) * (WEIGHT if self.mean_s else 1.0)


@dataclass(frozen=True)
class Capacity:
    """Of all replicas of a model, for interactive or for background jobs."""

    slots: int
    free: int
    #: Slots times seconds of a job; 0: none has ended yet.
    slot_s: float

    @property
    def per_second(self) -> float:
        """Jobs that begin, and end, in a second while others wait; 0 if that is not known."""
        return self.slots / self.slot_s if self.slot_s else 0.0

    def wait_s(self, position: int) -> float | None:
        """How long a job at this position of the line is expected to wait; None if that is not known."""
        behind = max(0, position - self.free)
        if not behind:
            return 0.0
        return behind / self.per_second if self.per_second else None

    def last_position(self, timeout_s: float) -> int:
        """The last position from which a job is expected to begin in time; 0 if that is not known."""
        if not self.per_second:
            return 0
        return max(1, self.free + math.floor(timeout_s * self.per_second * MARGIN))
