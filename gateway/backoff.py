"""How long to wait before another try. Knows no clock: whoever waits does so where it can be told to stop."""

from __future__ import annotations

import random
from dataclasses import dataclass

#: No pause doubles more often: 2 to a power of 1,024 is no float.
_MAX_DOUBLINGS = 64


@dataclass(frozen=True)
class Backoff:
    """Pauses, in seconds, that double from the first to the last."""

    first_s: float
    last_s: float
    #: The share of each pause that is left to chance, so that those who failed together do not try again together.
    jitter: float = 0.0

    def pause_s(self, failures: int) -> float:
        """The pause behind the last of so many failures in a row, 1 or more."""
        longest_s = min(self.first_s * 2.0 ** min(failures - 1, _MAX_DOUBLINGS), self.last_s)
        return longest_s * random.uniform(1.0 - self.jitter, 1.0)
