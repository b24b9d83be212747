"""How many jobs wait for each model, and for how long. Reads the queue indexes and the records of the first in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.jobs.indexes import BACKGROUND_SCORE
from gateway.jobs.store import JobStore
from gateway.store import keys
from gateway.store.connection import pipeline

#: Jobs of each class that are named.
FIRST = 5


@dataclass(frozen=True)
class Waiting:
    """Jobs of one class that wait for a model."""

    waiting: int = 0
    #: Since when the one that was made first waits, be it for the first time or again; 0.0 if none waits.
    oldest_wait_s: float = 0.0
    #: Ids of those that were made first.
    first: Sequence[str] = field(default_factory=list)


@dataclass(frozen=True)
class Backlog:
    """All jobs that wait for a model."""

    interactive: Waiting = Waiting()
    background: Waiting = Waiting()


def backlogs(store: JobStore, models: Sequence[str]) -> dict[str, Backlog]:
    """Those of these models, in two round trips. Raises: NOT_NOW."""
    found = iter(pipeline(store.redis, [one for model in models for one in _of_model(model)], raise_on_error=False))
    # What somebody else has put there is removed when a replica asks.
    rows = [
        [() if isinstance(reply, Exception) else reply for reply in (next(found) for _ in range(4))] for _ in models
    ]
    first = [ids[0] for row in rows for ids in row[2:] if ids]
    since = pipeline(store.redis, [("HGET", keys.job(job_id), "queued_at") for job_id in first], raise_on_error=False)
    now_ms = store.clock.estimated_now_ms()
    waits = {job_id: _wait_s(at, now_ms) for job_id, at in zip(first, since, strict=True)}
    return {
        model: Backlog(
            *(
                Waiting(count or 0, waits[ids[0]] if ids else 0.0, list(ids))
                for count, ids in zip(row[:2], row[2:], strict=True)
            )
        )
        for model, row in zip(models, rows, strict=True)
    }


def _of_model(model: str) -> list[tuple[Any, ...]]:
    """How many of each class wait, and the first ones of each: background jobs come behind a score."""
    name, low, high = keys.queued(model), f"({BACKGROUND_SCORE}", BACKGROUND_SCORE
    first = [("ZRANGE", name, *ends, "BYSCORE", "LIMIT", 0, FIRST) for ends in (("-inf", low), (high, "+inf"))]
    return [("ZCOUNT", name, "-inf", low), ("ZCOUNT", name, high, "+inf"), *first]


def _wait_s(queued_at: Any, now_ms: int) -> float:
    try:
        return round(max(0, now_ms - int(queued_at)) / 1000, 1)
    except (TypeError, ValueError):  # it has just ended, or its record can't be read
        return 0.0
