"""How often streams are written to: less often the more there are, since a write costs every process on its way."""

from __future__ import annotations

from typing import NamedTuple

#: So many streams are many.
MANY_STREAMS = 32


class FlushInterval(NamedTuple):
    """Seconds between two writes to the same stream: when there is one, and when there are `MANY_STREAMS` or more."""

    one_s: float = 0.0
    many_s: float = 0.0

    def interval_s(self, streams: int) -> float:
        """The time between two writes when there are so many streams."""
        return max(self.one_s, min(1.0, streams / MANY_STREAMS) * self.many_s)


#: Nothing waits.
IMMEDIATE = FlushInterval()
