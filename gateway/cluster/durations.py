"""How long the stages of earlier deployments took, to estimate when the next one will be done."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import cast

import redis

from gateway.cluster.startup import STAGES
from gateway.store import keys
from gateway.store.codec import dumps, is_number, loads
from gateway.store.unreadable import leaving_out

#: How many deployments of each model are remembered.
REMEMBERED = 10
#: Estimated seconds of each stage before the first deployment of a model.
UNKNOWN_S = dict(zip(STAGES, (0.5, 1.0, 3.0, 5.0, 2.0), strict=True))


class Durations:
    """Reads and writes them, by model."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client

    def expected(self, model: str) -> dict[str, float]:
        """Seconds of each stage: the median of the last ones."""
        known: dict[str, float] = {}
        with leaving_out(f"How long deployments of {model} took"):
            raw = cast("dict[str, str]", self._redis.hgetall(keys.durations(model)))
            known = {stage: statistics.median(recent) for stage, text in raw.items() if (recent := _seconds(text))}
        return {stage: known.get(stage, UNKNOWN_S[stage]) for stage in STAGES}

    def add(self, model: str, seconds: Mapping[str, float]) -> None:
        """Add the durations of a deployment that has succeeded."""
        name = keys.durations(model)
        for stage, took_s in seconds.items():
            raw = cast("str | None", self._redis.hget(name, stage))
            recent = [round(took_s, 3), *_seconds(raw or "[]")][:REMEMBERED]
            self._redis.hset(name, stage, dumps(recent))


def _seconds(text: str) -> list[float]:
    """The remembered durations of one stage; empty if they can't be read."""
    try:
        value = loads(text)
    except ValueError:
        return []
    return value if isinstance(value, list) and all(map(is_number, value)) else []
