"""Exponential back-off. Knows no clock: the caller waits, in a way that can be interrupted."""

from __future__ import annotations

import random
from dataclasses import dataclass

#: Limit on the exponent: 2.0 ** 1024 overflows.
_MAX_DOUBLINGS = 64
#: Numbers of our own: threads that wait disturb nobody who has seeded the common ones.
_RANDOM = random.Random()


@dataclass(frozen=True)
class Backoff:
    """Pauses in seconds that double from the first to the last."""

    first_s: float
    last_s: float
    #: The random share of each pause, so that callers that failed together do not retry together.
    jitter: float = 0.0

    def pause_s(self, failures: int) -> float:
        """The pause after this many failures in a row (at least 1)."""
        longest_s = min(self.first_s * 2.0 ** min(failures - 1, _MAX_DOUBLINGS), self.last_s)
        return longest_s * _RANDOM.uniform(1.0 - self.jitter, 1.0)
