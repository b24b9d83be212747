"""What serves a model: its living replicas, and those that should run. Each request asks for both at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from gateway.cluster.desired import Desired, ReplicaSpec
from gateway.cluster.registry import Registry, Replica
from gateway.store import keys
from gateway.store.cached import by_name
from gateway.store.scripts import Scripts


class Served(NamedTuple):
    """What serves one model."""

    replicas: Sequence[Replica] = ()
    specs: Sequence[ReplicaSpec] = ()


class Serving:
    """Reads them."""

    def __init__(self, registry: Registry, desired: Desired, scripts: Scripts) -> None:
        self._registry = registry
        self._desired = desired
        self._scripts = scripts

    def of(self, model: str) -> Served:
        """What serves this model, read in one round trip. Raises: NOT_NOW."""
        sets = [keys.BY_MODEL, keys.workers_of(model), keys.desired_of(model)]
        complete, beats, specs = self._scripts.run("serving", sets)
        if not complete:
            return Served(self._registry.replicas(model), self._desired.all(model))
        return Served(self._registry.of_beats(model, _pairs(beats)), self._desired.of_values(model, _pairs(specs)))

    def all(self) -> dict[str, Served]:
        """What serves each model that has a replica, or should have one. Raises: NOT_NOW."""
        replicas = by_name(self._registry.replicas(), lambda replica: replica.model)
        specs = by_name(self._desired.all(), lambda spec: spec.model)
        return {model: Served(replicas.get(model, ()), specs.get(model, ())) for model in {*replicas, *specs}}


def _pairs(flat: Sequence[Any]) -> list[tuple[str, Any]]:
    return sorted(zip(flat[::2], flat[1::2], strict=True), key=lambda pair: str(pair[0]))
