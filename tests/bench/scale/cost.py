"""What something costs: commands, bytes and processor time of Redis, and processor time of this process.

No wall-clock time: on a busy machine all of these stay as they are.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import redis


@dataclass(frozen=True)
class Cost:
    """`commands` counts those that scripts run, too; `trips` are reads that Redis made of its connections."""

    commands: float
    trips: float
    #: Bytes to Redis, and from it.
    sent: float
    received: float
    #: Processor time of Redis, and of this process, in ms.
    redis_ms: float
    client_ms: float

    def less(self, other: Cost) -> Cost:
        """What is left without another cost."""
        return Cost(*(max(0.0, mine - theirs) for mine, theirs in zip(self.values, other.values, strict=True)))

    def over(self, count: float) -> Cost:
        """The cost of one of so many."""
        return Cost(*(value / count for value in self.values))

    @property
    def values(self) -> tuple[float, ...]:
        """All figures, in the order of the fields."""
        return self.commands, self.trips, self.sent, self.received, self.redis_ms, self.client_ms


def middle(costs: Sequence[Cost]) -> Cost:
    """Figure by figure the median."""
    return Cost(*(statistics.median_low(values) for values in zip(*(cost.values for cost in costs), strict=True)))


class Meter:
    """Reads the counters of one Redis, which does nothing else meanwhile."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client
        #: What looking at the counters costs itself.
        self._look = middle([self._between(lambda: None) for _ in range(9)])

    def cost(self, act: Callable[[], object]) -> Cost:
        """What that costs."""
        return self._between(act).less(self._look)

    def median(self, act: Callable[[], object], times: int) -> Cost:
        """What that costs, figure by figure the median of several times."""
        return middle([self.cost(act) for _ in range(times)])

    def _between(self, act: Callable[[], object]) -> Cost:
        before = self._counters()
        act()
        return Cost(*self._counters()).less(Cost(*before))

    def _counters(self) -> tuple[float, ...]:
        found = self._redis.info("stats") | self._redis.info("cpu")
        cpu_s = found["used_cpu_user"] + found["used_cpu_sys"]
        return (
            found["total_commands_processed"],
            found["total_reads_processed"],
            found["total_net_input_bytes"],
            found["total_net_output_bytes"],
            1000 * cpu_s,
            1000 * time.process_time(),
        )
