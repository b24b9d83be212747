"""How often streams are written: less often the more there are, since each write costs time in several processes."""

from __future__ import annotations

from typing import NamedTuple

#: From this many streams on, the longest interval holds.
MANY_STREAMS = 32


class FlushInterval(NamedTuple):
    """Seconds between two writes to a stream: with one stream, and with `MANY_STREAMS` or more."""

    one_s: float = 0.0
    many_s: float = 0.0

    def interval_s(self, streams: int) -> float:
        """The interval for that number of streams, in proportion."""
        return max(self.one_s, min(1.0, streams / MANY_STREAMS) * self.many_s)


#: Write everything at once.
IMMEDIATE = FlushInterval()
