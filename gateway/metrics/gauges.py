"""What is at this moment, as families of Prometheus: from heartbeats, queues and Redis. Nothing is kept."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily

from gateway.cluster.registry import Health, Replica
from gateway.context import Gateway
from gateway.inference.backlog import backlogs
from gateway.inference.breaker import CircuitState
from gateway.process.version import own_version
from gateway.store import keys
from gateway.store.connection import NOT_NOW
from gateway.store.metrics import GAUGES


class Gauges:
    """Collects them from the parts of a gateway."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._found: dict[str, list[tuple[tuple[str, ...], float]]] = defaultdict(list)

    def families(self) -> Iterator[GaugeMetricFamily]:
        """All that could be read."""
        self._set("headrace_info", 1, own_version())
        try:
            for part in (self._redis, self._keeper, self._queues, self._workers, self._circuits):
                part()
        except NOT_NOW:
            self._set("headrace_redis_up", 0)
        for name, series in self._found.items():
            family = GaugeMetricFamily(name, GAUGES[name].help, labels=GAUGES[name].labels)
            for labels, value in series:
                family.add_metric(labels, value)
            yield family

    def _set(self, name: str, value: float, *labels: str) -> None:
        self._found[name].append((labels, value))

    def _redis(self) -> None:
        begun = time.perf_counter()
        self._gateway.redis.ping()
        took_s = time.perf_counter() - begun
        info = self._gateway.redis.info()
        self._set("headrace_redis_up", 1)
        self._set("headrace_redis_round_trip_seconds", took_s)
        self._set("headrace_redis_memory_bytes", info.get("used_memory", 0))
        self._set("headrace_redis_memory_limit_bytes", info.get("maxmemory", 0))
        self._set("headrace_redis_clients", info.get("connected_clients", 0))
        self._set("headrace_running_jobs", self._gateway.redis.zcard(keys.RUNNING))

    def _keeper(self) -> None:
        keeper = self._gateway.registry.keeper()
        self._set("headrace_keeper_up", bool(keeper))
        if keeper:
            self._set("headrace_keeper_trusted", keeper.trusted)
            self._set("headrace_keeper_round_seconds", keeper.round_s)

    def _queues(self) -> None:
        models = [model.id for model in self._gateway.catalog if not model.base]
        for model, backlog in backlogs(self._gateway.store, models).items():
            for word, waiting in (("interactive", backlog.interactive), ("background", backlog.background)):
                self._set("headrace_queue_jobs", waiting.waiting, model, word)
                self._set("headrace_queue_oldest_seconds", waiting.oldest_wait_s, model, word)
                room = self._gateway.inference.waiting
                if (eta_s := room.newcomer_s(model, backlog, background=word == "background")) is not None:
                    self._set("headrace_queue_eta_seconds", eta_s, model, word)

    def _workers(self) -> None:
        replicas, _ = self._gateway.inference.router.everything()
        for replica in replicas:
            self._replica(replica, (replica.model, replica.node, replica.device, replica.replica_id))
        for device in self._gateway.registry.devices():
            self._set("headrace_device_memory_bytes", device.memory_total, *device.address)
            self._set("headrace_device_free_bytes", device.memory_free, *device.address)
        running: dict[str, int] = defaultdict(int)
        for worker in self._gateway.registry.providers():
            running[worker.node] += worker.running
        for node, calls in running.items():
            self._set("headrace_provider_calls_running", calls, node)

    def _replica(self, replica: Replica, labels: tuple[str, ...]) -> None:
        self._set("headrace_replica_healthy", replica.health == Health.HEALTHY, *labels)
        self._set("headrace_replica_slots", replica.max_batch_size, *labels)
        self._set("headrace_replica_sequences", replica.sequences, *labels)
        if capacity := replica.effective.get("kv_capacity_tokens"):
            self._set("headrace_replica_kv_tokens", capacity, *labels)
            self._set("headrace_replica_kv_used_tokens", replica.kv_used_tokens, *labels)
        self._set("headrace_replica_tokens_per_second", replica.tokens_per_second, *labels)
        self._set("headrace_replica_memory_bytes", replica.memory_bytes, *labels)
        self._set("headrace_replica_planned_bytes", replica.planned_bytes, *labels)
        self._set("headrace_replica_steps", replica.steps, *labels)
        self._set("headrace_replica_step_seconds", replica.step_s, *labels)

    def _circuits(self) -> None:
        providers = sorted({model.provider for model in self._gateway.catalog if not model.local})
        for provider, circuit in self._gateway.inference.router.breaker.states(providers).items():
            for state in CircuitState:
                self._set("headrace_provider_circuit", state is circuit.state, provider, state.value)
