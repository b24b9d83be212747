"""Statistics of a model over the last hour, in Redis, in buckets of five minutes."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import redis

from gateway.store import keys
from gateway.store.connection import pipeline
from gateway.store.joined import Command

#: Length of the window, and of one bucket, in seconds.
WINDOW_S, BUCKET_S = 3600, 300


@dataclass(frozen=True)
class Stats:
    """Counts over the window: answers, failures that are not the client's fault, and the sum of the latencies."""

    answered: int = 0
    failed: int = 0
    total_ms: int = 0

    def __add__(self, more: Stats) -> Stats:
        return Stats(self.answered + more.answered, self.failed + more.failed, self.total_ms + more.total_ms)

    @property
    def average_latency_ms(self) -> int | None:
        """Mean time from request to the end of the answer, queue included; None without answers."""
        return round(self.total_ms / self.answered) if self.answered else None

    @property
    def availability(self) -> float | None:
        """Share of the requests that were answered; None without requests."""
        asked = self.answered + self.failed
        return round(self.answered / asked, 4) if asked else None


def counting(stats: Mapping[str, Stats], *, now_ms: int) -> list[Command]:
    """The commands that count what has happened with each model since the last time."""
    commands: list[Command] = []
    for model, new in stats.items():
        key = keys.stats(model, _bucket(now_ms))
        counts = {"answered": new.answered, "failed": new.failed, "total_ms": new.total_ms}
        commands += [("HINCRBY", key, name, count) for name, count in counts.items() if count]
        commands.append(("EXPIRE", key, WINDOW_S + BUCKET_S))
    return commands


def count_failure(pipe: redis.client.Pipeline, model: str, *, now_ms: int) -> None:
    """Count a failure that is not the client's fault, in a pipeline."""
    for command in counting({model: Stats(failed=1)}, now_ms=now_ms):
        pipe.execute_command(*command)


def read_stats(client: redis.Redis, models: Sequence[str], *, now_ms: int) -> dict[str, Stats]:
    """Read the last hour of each of these models, in one round trip."""
    last = _bucket(now_ms)
    buckets = range(last - WINDOW_S // BUCKET_S + 1, last + 1)
    names = [keys.stats(model, bucket) for model in models for bucket in buckets]
    reads = [("HMGET", name, "answered", "failed", "total_ms") for name in names]
    rows = iter(pipeline(client, reads, raise_on_error=False))
    return {model: _sum(itertools.islice(rows, len(buckets))) for model in models}


def _sum(rows: Iterable[Any]) -> Stats:
    """What buckets hold together, without those that can't be read."""
    found = [row for row in rows if isinstance(row, list)]
    answered, failed, total_ms = (sum(_count(row[column]) for row in found) for column in range(3))
    return Stats(answered, failed, total_ms)


def _bucket(now_ms: int) -> int:
    return now_ms // (BUCKET_S * 1000)


def _count(text: str | None) -> int:
    """A counter; 0 for one that can't be read."""
    return int(text) if text and text.isdecimal() and len(text) < 16 else 0
