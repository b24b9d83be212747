"""The metrics, from `gateway/store/metrics.py`."""

from __future__ import annotations

from collections.abc import Iterator

from docs.site.markdown import code, table
from gateway.store.metrics import COUNTED, GAUGES, OF_KEYS, Metric


def text() -> str:
    """A table of all metrics, by how they come about."""
    parts = {
        "Counted in Redis": [*COUNTED.values(), OF_KEYS],
        "At the moment of the look": list(GAUGES.values()),
    }
    head = ("metric", "labels", "meaning")
    return "\n".join(f"## {title}\n\n{table(head, _rows(metrics))}" for title, metrics in parts.items())


def _rows(metrics: list[Metric]) -> Iterator[tuple[str, str, str]]:
    for metric in metrics:
        is_gauge = metric.name in GAUGES
        name = metric.name if is_gauge or metric.buckets else f"{metric.name}_total"
        buckets = f" Buckets: {', '.join(f'{bound:g}' for bound in metric.buckets)}." if metric.buckets else ""
        yield code(name), ", ".join(map(code, metric.labels)), metric.help + buckets
