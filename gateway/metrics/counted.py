"""What has been counted in Redis, as families of Prometheus."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import redis
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

from gateway.metrics.counts import Labels, read_counts, read_hash
from gateway.store import keys
from gateway.store.metrics import COUNTED, OF_KEYS, SEPARATOR, SUM, Metric

Family = Any


def counted(client: redis.Redis, *, with_keys: bool) -> Iterator[Family]:
    """All of it; what can't be read is left out. Raises: NOT_NOW."""
    for word, series in read_counts(client).items():
        metric = COUNTED[word]
        yield (_histogram if metric.buckets else _counter)(metric, series)
    if with_keys:
        found = {(*field.split(SEPARATOR),): number for field, number in read_hash(client, keys.KEY_METRICS)}
        yield _counter(OF_KEYS, {labels: number for labels, number in found.items() if len(labels) == 2})


def _counter(metric: Metric, found: Mapping[Labels, int]) -> Family:
    family = CounterMetricFamily(metric.name, metric.help, labels=metric.labels)
    for labels, number in sorted((found or ({} if metric.labels else {(): 0})).items()):
        family.add_metric(labels, number / metric.scale)
    return family


def _histogram(metric: Metric, found: Mapping[Labels, int]) -> Family:
    family = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
    series: dict[Labels, dict[str, int]] = defaultdict(dict)
    for (*labels, bucket), number in sorted(found.items()):
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
