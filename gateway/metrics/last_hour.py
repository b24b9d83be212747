"""The last hour as operators see it: its points, and what went wrong in it."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import redis

from gateway.metrics.counts import read_counts
from gateway.metrics.history import EVERY_S, Counted, History, Point, between
from schemas.base.times import iso

#: Ends of calls to a provider for which nobody is to blame.
_CALM = frozenset({"done", "cancelled"})


def last_hour(client: redis.Redis) -> dict[str, Any]:
    """The points, and all that was counted since the first of them. Raises: NOT_NOW."""
    points = History(client).points()
    now = Counted.of(read_counts(client))
    total = now.since(points[0]) if points else Counted()
    return {
        "every_s": EVERY_S,
        "since": iso(points[0].at_ms) if points else None,
        "points": [_point(point, counted) for point, counted in between(points)],
        "ends": _sorted(total.ends, "end"),
        "failures": _sorted(total.failures, "reason"),
        "replies": [
            {"status": int(status), "reason": reason, "count": count}
            for (status, _, reason), count in ((name.partition(" "), n) for name, n in _most_first(total.replies))
            if re.fullmatch(r"\d{3}", status)
        ],
        "providers": _providers(total.calls),
    }


def _point(point: Point, counted: Counted) -> dict[str, Any]:
    calls = _providers(counted.calls)
    return {
        "at": iso(point.at_ms),
        "tokens_per_second": point.tokens_per_second,
        "running": point.running,
        "slots": point.slots,
        "interactive": point.interactive,
        "background": point.background,
        "ended": sum(counted.ends.values()),
        "failed": counted.ends.get("failed", 0),
        "refused": sum(counted.replies.values()),
        "provider_calls": sum(one["calls"] for one in calls),
        "provider_errors": sum(one["errors"] for one in calls),
    }


def _providers(calls: Mapping[str, int]) -> list[dict[str, Any]]:
    ends: dict[str, dict[str, int]] = defaultdict(dict)
    for name, count in calls.items():
        end, _, provider = name.partition(" ")
        ends[provider][end] = count
    return [
        {
            "provider": provider,
            "calls": sum(found.values()),
            "errors": sum(count for end, count in found.items() if end not in _CALM),
            "ends": _sorted(found, "end"),
        }
        for provider, found in sorted(ends.items())
    ]


def _sorted(counts: Mapping[str, int], name: str) -> list[dict[str, Any]]:
    return [{name: word, "count": count} for word, count in _most_first(counts)]


def _most_first(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda pair: -pair[1])
