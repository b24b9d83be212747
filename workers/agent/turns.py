"""One replica of a device loads at a time, when there is room for it. Those that nobody uses make room for those that
somebody waits for.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import redis

from gateway.cluster.desired import Desired
from gateway.cluster.registry import Device, Registry
from gateway.deployments.making_room import Answer, Need, Resident, limit_bytes, make_room, reclaimable_bytes, residents
from gateway.deployments.memory import USABLE
from gateway.deployments.reasons import DeploymentFailed, FailureReason
from gateway.settings import Settings
from workers.agent.replica_locks import replicas_here
from workers.host.devices import describe_device
from workers.stages.base import Startup

#: Pause between two looks for room.
LOOK_S = 0.2


class Turns:
    """Of one device."""

    def __init__(self, settings: Settings, client: redis.Redis) -> None:
        self._settings = settings
        self._registry = Registry(client)
        self._desired = Desired(client)
        self._turn = threading.Semaphore(1)
        #: Replicas that were asked to rest: when, and for how long they had been idle.
        self._asked: dict[str, tuple[float, float]] = {}

    @contextmanager
    def taken(self, up: Startup) -> Iterator[None]:
        """Wait for the turn, and for room. Raises: DeploymentFailed; NOT_NOW."""
        self._wait(up)
        try:
            up.check()
            yield
        finally:
            self._turn.release()

    def reclaimable_bytes(self) -> int:
        """What idle replicas would give back. Raises: NOT_NOW."""
        return reclaimable_bytes(self._residents(self._device())) if self._settings.load_on_demand else 0

    def _wait(self, up: Startup) -> None:
        """Return when it has the turn, and there is room. Others may load while it waits for room."""
        said, until = "", 0.0
        while True:
            up.check()
            why = "waits until another replica of this device is loaded"
            if self._turn.acquire(timeout=LOOK_S):
                try:
                    why = self._lacks(up, is_late=0 < until < time.monotonic())
                finally:
                    if why:
                        self._turn.release()
                if not why:
                    return
                until = until or time.monotonic() + self._settings.queue_timeout_s
                time.sleep(LOOK_S)
            if why != said:
                up.say(why)
                said = why

    def _lacks(self, up: Startup, *, is_late: bool) -> str:
        """Why it must wait for room; empty: there is. Raises: DeploymentFailed if there will be none; NOT_NOW."""
        if not self._settings.load_on_demand:
            return ""
        device = self._device()
        if not self._settings.load_on_demand_memory and up.peak_bytes <= device.memory_free * USABLE:
            return ""
        there = [one for one in self._residents(device) if one.replica_id != up.spec.replica_id]
        limit = limit_bytes(self._settings.load_on_demand_memory, device.memory_total)
        need = Need(up.peak_bytes, up.planned_bytes, on_demand=up.spec.on_demand)
        answer = make_room(need, device.memory_free, there, limit=limit)
        if answer.has_room:
            return ""
        if is_late or not answer.waits_for:
            raise DeploymentFailed(FailureReason.OUT_OF_MEMORY, _no_room(need, device, limit, answer))
        if resting := answer.to_rest:
            self._asked[resting.replica_id] = time.monotonic(), resting.idle_s
            self._desired.ask_to_rest(resting.replica_id, idle_s=resting.idle_s, for_s=self._settings.lease_s)
        return f"waits for the memory of {', '.join(answer.waits_for)}"

    def _residents(self, device: Device) -> list[Resident]:
        """The replicas on it. Who was asked to rest has a lease's time to do so."""
        before = time.monotonic() - self._settings.lease_s
        self._asked = {name: asked for name, asked in self._asked.items() if asked[0] > before}
        specs = {name: one for name, one in self._desired.on(*device.address).items() if one}
        asked = {name: idle_s for name, (_, idle_s) in self._asked.items()}
        return residents(device, replicas_here(self._settings, self._registry), specs, asked=asked)

    def _device(self) -> Device:
        """As it is now."""
        node, name = self._settings.node, self._settings.device
        facts = describe_device(name)
        return Device("", node, name, 0, memory_total=facts.memory_total, memory_free=facts.memory_free)


def _no_room(need: Need, device: Device, limit: int, answer: Answer) -> str:
    """Why there is no room, for people."""
    text = f"It needs {need.peak_bytes / 1e9:.2f} GB, and {device.name} has {device.memory_free / 1e9:.2f} GB free"
    if need.on_demand and limit:
        text += f"; models on demand may take {limit / 1e9:.2f} GB there (HEADRACE_LOAD_ON_DEMAND_MEMORY)"
    if answer.waits_for:
        return f"{text}. What {', '.join(answer.waits_for)} takes is in use."
    return f"{text}. Nothing there may be unloaded for it."
