"""What has been counted in Redis, as whole numbers by word and labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import redis

from gateway.store import keys
from gateway.store.connection import pipeline
from gateway.store.metrics import COUNTED, SEPARATOR

#: Labels of one series; of a histogram the bucket is the last one.
Labels = tuple[str, ...]
Counts = Mapping[str, Mapping[Labels, int]]


def read_counts(client: redis.Redis) -> Counts:
    """All that is counted of jobs, by the words of `COUNTED`; what can't be read is left out. Raises: NOT_NOW."""
    found: dict[str, dict[Labels, int]] = {word: {} for word in COUNTED}
    for field, number in read_hash(client, keys.METRICS):
        word, *labels = field.split(SEPARATOR)
        metric = COUNTED.get(word)
        if metric and len(labels) == len(metric.labels) + bool(metric.buckets):
            found[word][*labels] = number
    return found


def read_hash(client: redis.Redis, name: str) -> Iterator[tuple[str, int]]:
    """The fields of a hash that hold a count. Raises: NOT_NOW."""
    (reply,) = pipeline(client, [("HGETALL", name)], raise_on_error=False)
    for field, text in reply.items() if isinstance(reply, dict) else ():
        if text.isdecimal() and len(text) < 20:
            yield field, int(text)
