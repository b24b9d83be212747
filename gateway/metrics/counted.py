"""What has been counted in Redis, as families of Prometheus."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import redis
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

from gateway.store import keys
from gateway.store.connection import pipeline
from gateway.store.metrics import COUNTED, OF_KEYS, SEPARATOR, SUM, Metric

Family = Any
#: Labels of one series.
Labels = tuple[str, ...]


def counted(client: redis.Redis, *, with_keys: bool) -> Iterator[Family]:
    """All of it; what can't be read is left out. Raises: NOT_NOW."""
    names = [keys.METRICS, *([keys.KEY_METRICS] if with_keys else [])]
    replies = pipeline(client, [("HGETALL", name) for name in names], raise_on_error=False)
    jobs, *of_keys = [reply if isinstance(reply, dict) else {} for reply in replies]
    found: dict[str, dict[Labels, int]] = defaultdict(dict)
    for field, number in _whole(jobs):
        word, *labels = field.split(SEPARATOR)
        found[word][*labels] = number
    for word, metric in COUNTED.items():
        yield (_histogram if metric.buckets else _counter)(metric, found[word])
    for raw in of_keys:
        yield _counter(OF_KEYS, {(*field.split(SEPARATOR),): number for field, number in _whole(raw)})


def _whole(raw: Mapping[str, str]) -> Iterator[tuple[str, int]]:
    for field, text in raw.items():
        if text.isdecimal() and len(text) < 20:
            yield field, int(text)


def _counter(metric: Metric, found: Mapping[Labels, int]) -> Family:
    family = CounterMetricFamily(metric.name, metric.help, labels=metric.labels)
    if not metric.labels:
        family.add_metric([], sum(found.values()) / metric.scale)
        return family
    for labels, number in sorted(found.items()):
        if len(labels) == len(metric.labels):
            family.add_metric(labels, number / metric.scale)
    return family


def _histogram(metric: Metric, found: Mapping[Labels, int]) -> Family:
    family = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
    series: dict[Labels, dict[str, int]] = defaultdict(dict)
    for (*labels, bucket), number in sorted(found.items()):
        if len(labels) == len(metric.labels):
            series[*labels][bucket] = number
    for key, buckets in series.items():
        family.add_metric(key, _cumulative(metric.buckets, buckets), sum_value=buckets.get(SUM, 0) / 1_000_000)
    return family


def _cumulative(bounds: Sequence[float], buckets: Mapping[str, int]) -> list[tuple[str, float]]:
    """Each bucket with all below it. Those of Lua are counted from 1; the one behind the last is without bound."""
    total, found = 0, []
    for i, bound in enumerate((*map(str, bounds), "+Inf"), 1):
        total += buckets.get(str(i), 0)
        found.append((bound, float(total)))
    return found
