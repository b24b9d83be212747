"""The model sizes that agents have published, so that memory can be planned on machines without the files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from functools import partial
from typing import cast

import redis

from gateway.cluster.registry import Device
from gateway.models.footprint import Footprint
from gateway.store import keys
from gateway.store.codec import dumps, load_as
from gateway.store.connection import pipeline
from gateway.store.unreadable import leaving_out, readable

#: What a device has published is kept for so long after its agent was there, in seconds.
KEEP_S = 86_400


class Footprints:
    """Reads and writes them, by device and model."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client

    def get(self, device: Device, model: str) -> Footprint | None:
        """None if the device's agent does not know it: it has not inspected the files yet, or there are none."""
        with leaving_out(_named(device, model)):
            raw = cast("str | None", self._redis.hget(keys.footprints(*device.address), model))
            return load_as(Footprint, raw) if raw else None
        return None

    def find(self, devices: Iterable[Device], model: str) -> Footprint | None:
        """What one of these devices knows of a model; None if none does."""
        return next(iter(self.of(devices, model).values()), None)

    def of(self, devices: Iterable[Device], model: str) -> dict[str, Footprint]:
        """What each of these devices knows of a model, by the names of those that do; in one round trip."""
        found = {_named(device, model): device for device in devices}
        reads = [("HGET", keys.footprints(*device.address), model) for device in found.values()]
        values = zip(found, pipeline(self._redis, reads, raise_on_error=False), strict=True)
        named = ((name, value) for name, value in values if value)
        return {found[name].name: footprint for name, footprint in readable(named, partial(load_as, Footprint))}

    def known(self, devices: Iterable[Device]) -> set[str]:
        """The models whose files are on one of these devices, or can be downloaded there."""
        pipe = self._redis.pipeline(transaction=False)
        for device in devices:
            pipe.hkeys(keys.footprints(*device.address))
        found = pipe.execute(raise_on_error=False)
        return {str(model) for models in found if isinstance(models, list) for model in models}

    def add(self, node: str, device: str, model: str, found: Footprint) -> None:
        """Add what a device has just found, before it publishes all of it again."""
        pipe = self._redis.pipeline(transaction=True)
        pipe.hset(keys.footprints(node, device), model, dumps(asdict(found)))
        pipe.expire(keys.footprints(node, device), KEEP_S)
        pipe.execute()

    def publish(self, node: str, device: str, found: Mapping[str, Footprint]) -> None:
        """Replace what a device has published."""
        name = keys.footprints(node, device)
        pipe = self._redis.pipeline(transaction=True)
        pipe.delete(name)
        if found:
            pipe.hset(name, mapping={model: dumps(asdict(one)) for model, one in found.items()})
            pipe.expire(name, KEEP_S)
        pipe.execute()


def _named(device: Device, model: str) -> str:
    return f"What {device.name} has found of the size of {model}"
