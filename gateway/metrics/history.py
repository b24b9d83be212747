"""The last hour, in points of half a minute, for who looks at it later. One keeper writes, whoever else there is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import redis

from gateway.errors import Unreadable
from gateway.metrics.counts import Counts, Labels
from gateway.store import keys
from gateway.store.checks import is_time
from gateway.store.codec import dumps, load_as
from gateway.store.metrics import SUM
from gateway.store.unreadable import leaving_out, readable

#: The time between two points, and how many are kept: an hour, and the point at which it begins.
EVERY_S, POINTS = 30, 121
#: Names of each kind in one point: those that count most.
MOST_NAMES = 64


@dataclass(frozen=True)
class Counted:
    """What has been counted since Redis began, up to one moment."""

    #: Jobs by how they ended: done, failed, cancelled.
    ends: Mapping[str, int] = field(default_factory=dict)
    #: Jobs that have failed, by reason.
    failures: Mapping[str, int] = field(default_factory=dict)
    #: Requests that were answered with an error, by `{status} {reason}`.
    replies: Mapping[str, int] = field(default_factory=dict)
    #: Calls to providers by `{end} {provider}`.
    calls: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, counts: Counts) -> Counted:
        """From what the scripts of Redis have counted."""
        calls = {labels: number for labels, number in counts["calls"].items() if labels[-1] != SUM}
        return cls(
            ends=_summed(counts["jobs"], lambda labels: labels[2]),
            failures=_summed(counts["failures"], lambda labels: labels[1]),
            replies=_summed(counts["errors"], lambda labels: f"{labels[1]} {labels[2]}"),
            calls=_summed(calls, lambda labels: f"{labels[1]} {labels[0]}"),
        )

    def since(self, before: Counted) -> Counted:
        """What was counted between two moments. What is less than before has begun anew."""
        return Counted(
            _more(self.ends, before.ends),
            _more(self.failures, before.failures),
            _more(self.replies, before.replies),
            _more(self.calls, before.calls),
        )


@dataclass(frozen=True)
class Point(Counted):
    """What was at one moment, and what had been counted up to it."""

    at_ms: int = 0
    tokens_per_second: float = 0.0
    #: Slots in use, and all there are.
    running: int = 0
    slots: int = 0
    #: Jobs that wait, by class.
    interactive: int = 0
    background: int = 0


class History:
    """Reads and adds points."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client

    def take_turn(self) -> bool:
        """Whether it is time for a point, and no other keeper adds it. Raises: NOT_NOW."""
        return bool(self._redis.set(keys.HISTORY_TURN, "1", nx=True, px=int(1000 * (EVERY_S - 1))))

    def add(self, point: Point) -> None:
        """Keep it, and drop the oldest. Raises: NOT_NOW."""
        pipe = self._redis.pipeline(transaction=True)
        pipe.lpush(keys.HISTORY, dumps(point))
        pipe.ltrim(keys.HISTORY, 0, POINTS - 1)
        pipe.execute()

    def points(self) -> list[Point]:
        """The oldest first; those that can't be read are left out. Raises: NOT_NOW."""
        texts: list[str] = []
        with leaving_out(keys.HISTORY):
            texts = cast("list[str]", self._redis.lrange(keys.HISTORY, 0, POINTS - 1))
        named = ((f"Entry {at} of {keys.HISTORY}", text) for at, text in enumerate(reversed(texts)))
        return [point for _, point in readable(named, _point)]


def between(points: Sequence[Point]) -> Iterator[tuple[Point, Counted]]:
    """Each point with what was counted since the one before; nothing for the first."""
    for before, point in zip([points[0], *points] if points else [], points, strict=False):
        yield point, point.since(before)


def _point(text: str) -> Point:
    """Raises: Unreadable."""
    point = load_as(Point, text)
    if not is_time(point.at_ms):
        raise Unreadable(f"Its time is {point.at_ms}.")
    return point


def _summed(series: Mapping[Labels, int], name: Callable[[Labels], str]) -> dict[str, int]:
    """Series that have the same name together."""
    found: Counter[str] = Counter()
    for labels, number in series.items():
        found[name(labels)] += number
    return dict(found.most_common(MOST_NAMES))


def _more(now: Mapping[str, int], before: Mapping[str, int]) -> dict[str, int]:
    each = {name: number - before.get(name, 0) for name, number in now.items()}
    return {name: now[name] if number < 0 else number for name, number in each.items() if number}
