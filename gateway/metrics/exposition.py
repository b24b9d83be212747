"""The answer to a scrape: all metrics, in the format that the client asks for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from gateway.context import Gateway
from gateway.metrics.counted import counted
from gateway.metrics.gauges import Gauges
from gateway.store.connection import NOT_NOW


class _Collector:
    """Reads everything anew for each scrape."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def collect(self) -> Iterator[Any]:
        """The families. While Redis is away there is none of what it has counted: a gap, and no zeros."""
        yield from Gauges(self._gateway).families()
        try:
            yield from counted(self._gateway.redis, with_keys=self._gateway.settings.metrics_keys)
        except NOT_NOW:
            return


def exposition(gateway: Gateway, accept: str) -> tuple[bytes, str]:
    """Text and content type, for this `Accept` header."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(gateway))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type
