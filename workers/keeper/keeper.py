"""The keeper, `python -m workers.keeper`: finds jobs that lost their worker, message or client, and repairs that.

Two keepers do no harm: every change goes through a script that checks the claim. It judges
by ages and time-outs only while it can trust them (`gateway/cluster/trust.py`).
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import cast

from celery import Celery

from gateway.access.limits import Limits
from gateway.cluster import by_model
from gateway.cluster.desired import Desired, SpecState
from gateway.cluster.registry import KeeperState, ProviderWorker, Registry, Replica
from gateway.cluster.trust import Trust
from gateway.deployments.on_demand import on_demand
from gateway.deployments.reasons import FailureReason
from gateway.deployments.service import Deployments
from gateway.jobs.cleanup import Cleanup, Strays
from gateway.jobs.compaction import compact_ended
from gateway.jobs.record import AGENT_KINDS, JobHead
from gateway.jobs.store import JobStore
from gateway.models.catalog import Catalog, load_catalog
from gateway.queue.celery_app import make_celery
from gateway.queue.names import device_queue_key, is_device
from gateway.settings import Settings
from gateway.store import keys
from gateway.store.cached import Cached, by_name
from gateway.store.connection import NOT_NOW, connect, pipeline, run_id
from gateway.store.durability import Durability, durability
from gateway.store.installation import Installation
from gateway.store.joined import Command
from gateway.store.loop import guarded, repeat
from workers.keeper.demand import Demand
from workers.keeper.recorder import Recorder
from workers.keeper.sweeps import QueueSweep, RunningSweep
from workers.keeper.trace_export import exporting

log = logging.getLogger("headrace.keeper")

#: Pause between two rounds; a heartbeat must be missing in two of them.
ROUND_S = 1.0
#: Jobs for a model without a present or starting replica wait for this many leases, then they fail.
UNSERVED_LEASES = 2
#: How often the sets by model are completed, see `gateway/cluster/by_model.py`.
SETS_S = 5.0
#: How often Redis is asked whether it keeps what it is given.
DURABILITY_S = 60.0
#: A journal is compacted this long after the job's end. Until then the drain rate counts the job, and clients resume.
COMPACT_MS = 60_000


class Keeper:
    """Each round checks every running job, and some queued jobs of each model."""

    def __init__(
        self,
        *,
        settings: Settings,
        store: JobStore,
        registry: Registry,
        celery: Celery,
        catalog: Catalog,
        trust: Trust | None = None,
    ) -> None:
        self.settings = settings
        self.catalog = catalog
        self.desired = Desired(store.redis)
        self.store = store
        self.installation = Installation(store.redis, settings.data_dir)
        self.registry = registry
        self.limits = Limits(store.redis, store.scripts)
        self.cleanup = Cleanup(store)
        self.strays = Strays(store)
        self.recorder = Recorder(store, registry, catalog)
        self.trust = trust or Trust()
        self.running = RunningSweep(settings=settings, store=store, celery=celery, trust=self.trust, registry=registry)
        self.queues = QueueSweep(settings=settings, store=store, celery=celery, trust=self.trust)
        loader = on_demand(
            Deployments(settings=settings, store=store, registry=registry, catalog=catalog, celery=celery)
        )
        #: None: nothing is loaded on demand.
        self.demand = Demand(loader, self.queues, registry) if loader else None
        #: By queue key: since when it has had no worker, and none is to come.
        self._unserved_since: dict[str, float] = {}
        #: By queue key: when it had a worker that asks for its jobs.
        self._served_at: dict[str, float] = {}
        self._round_s = 0.0
        self._durability: Cached[Durability] = Cached(DURABILITY_S)
        #: The living replicas by model, the living provider workers, and the provider of each remote model.
        self._replicas: Mapping[str, Sequence[Replica]] = {}
        self._providers: Sequence[ProviderWorker] = ()
        self._remote: Mapping[str, str] = {}
        self._next_sets = 0.0

    def run(self, stop: threading.Event) -> None:
        """Run rounds until `stop` is set."""
        repeat(self._step, name="the keeper", over=lambda: stop.wait(ROUND_S))

    def _step(self) -> None:
        try:
            self.round()
        except NOT_NOW:
            self.trust.lose("Redis does not answer")
            self.running.distrust()
            raise

    def round(self) -> None:
        """One round. Raises: NOT_NOW."""
        began = time.monotonic()
        self.installation.begin()
        self.trust.tick()
        now_ms = self.store.clock.now_ms()
        self.trust.observe(run_id(self.store.redis), now_ms)
        self._beat()
        with guarded("the running jobs"):
            self.running.run(now_ms)
        with guarded("the queues"):
            self._look_at_workers()
            self._look_at_queues(now_ms)
        charges = self.limits.reclaim_expired_reservations
        sweeps = self.cleanup.step, self.strays.step
        for step in (self.catalog.publish, self._complete_sets, charges, *sweeps, self.recorder.step):
            with guarded(step.__qualname__):
                self.trust.tick()
                step()
        self.queues.forget()
        self._round_s = time.monotonic() - began
        self._beat()

    def _beat(self) -> None:
        """Send a heartbeat with the duration of a round, whether lost jobs are recovered now, and what Redis keeps."""
        lease_s = self.settings.lease_s
        found = self._durability.get(self._look_at_redis)
        state = KeeperState(
            round_s=round(self._round_s, 3),
            trusted=self.trust.held_for(lease_s),
            durability=found.text,
            evicts=found.evicts,
        )
        self.registry.beat_keeper(state, lease_s=lease_s)

    def _look_at_redis(self) -> Durability:
        """Raises: NOT_NOW."""
        found = durability(self.store.redis)
        if found.evicts:
            log.error(found.text)
        return found

    def _look_at_queues(self, now_ms: int) -> None:
        models = sorted(cast("set[str]", self.store.redis.smembers(keys.QUEUES)))
        before_ms = now_ms - COMPACT_MS
        looks: list[Command] = [("ZCARD", keys.queued(model)) for model in models]
        looks += [("ZCOUNT", keys.ended(model), 0, before_ms) for model in models]
        counts = pipeline(self.store.redis, looks, raise_on_error=False)
        for model, waits, ended in zip(models, counts, counts[len(models) :], strict=False):
            with guarded(f"the queue of {model}"):
                self._look_at_queue(model, now_ms, is_empty=waits == 0)
                if ended != 0:
                    compact_ended(self.store, model, before_ms=before_ms)

    def _look_at_queue(self, model: str, now_ms: int, *, is_empty: bool) -> None:
        workers = self._workers_of(model)
        pulled = not is_device(model) and all(worker.pulls for worker in workers)
        if workers:
            self._served_at[model] = time.monotonic()
        away_s = time.monotonic() - self._served_at.setdefault(model, time.monotonic())
        if is_empty:
            return
        served = pulled and away_s < self.settings.queue_timeout_s  # a worker may be away for a while
        waiting = self.queues.run(model, now_ms, pulled=pulled, served=served)
        if waiting and self._has_no_worker(model, waiting):
            self._give_up(waiting, model)

    def _look_at_workers(self) -> None:
        """Read once for all queues who serves them. Raises: NOT_NOW."""
        self._replicas = by_name(self.registry.replicas(), lambda replica: replica.model)
        self._providers = self.registry.providers()
        self._remote = {model.id: model.provider for model in self.catalog if not model.local}

    def _complete_sets(self) -> None:
        """Complete the sets by model now and then. Raises: NOT_NOW."""
        if time.monotonic() >= self._next_sets:
            specs = by_name(self.desired.all(), lambda spec: spec.model)
            sets = {keys.workers_of(m): [one.incarnation for one in found] for m, found in self._replicas.items()}
            sets |= {keys.desired_of(m): [one.member for one in found] for m, found in specs.items()}
            by_model.complete(self.store.redis, sets)
            self._next_sets = time.monotonic() + SETS_S

    def _workers_of(self, model_id: str) -> Sequence[Replica | ProviderWorker]:
        """The living replicas of a local model, or the provider workers that have the key of a remote one."""
        if provider := self._remote.get(model_id):
            return [worker for worker in self._providers if provider in worker.credentials]
        return self._replicas.get(model_id, ())

    def _has_no_worker(self, queue_key: str, waiting: Sequence[JobHead]) -> bool:
        """Whether no worker has served this queue for longer than its grace period. A sleeping model is woken, and one
        that may be loaded for those that wait is loaded.
        """
        if is_device(queue_key):
            served = queue_key in {device_queue_key(*device.address) for device in self.registry.devices()}
            patience_s = self.settings.node_gone_s
        else:
            served, patience_s = self._served(queue_key, waiting), self.settings.lease_s * UNSERVED_LEASES
        if served or self.installation.lost or not self.trust.held_for(self.settings.lease_s):
            self._unserved_since.pop(queue_key, None)
            return False
        return time.monotonic() - self._unserved_since.setdefault(queue_key, time.monotonic()) > patience_s

    def _served(self, model_id: str, waiting: Sequence[JobHead]) -> bool:
        """Whether a model has a replica, or will have one; a remote one is served by all provider workers."""
        if model_id in self._remote or self._replicas.get(model_id):
            return True
        model = next((model for model in self.catalog if model.id == model_id), None)
        specs = self.desired.all(model_id)
        states = {spec.state for spec in specs}
        if SpecState.ASLEEP in states and SpecState.RUNNING not in states:
            self.desired.wake(model_id)
        if model is None or self.demand is None:
            return bool(states & {SpecState.RUNNING, SpecState.ASLEEP})
        if states & {SpecState.RUNNING, SpecState.ASLEEP}:
            if self.trust.held_for(self.settings.node_gone_s):
                self.demand.move(model, waiting, specs, after_s=self.settings.node_gone_s)
            return True
        return not self.installation.lost and self.demand.meet(model, waiting)

    def _give_up(self, jobs: Iterable[JobHead], queue_key: str) -> None:
        for job in jobs:
            if job.kind in AGENT_KINDS:
                gone = FailureReason.NODE_GONE
                error = {
                    "reason": gone.value,
                    "message": f"The agent of {queue_key[1:]} is gone.",
                    "remedy": gone.remedy,
                }
            else:
                obstacle = self.demand.obstacles.get(queue_key) if self.demand else None
                message = obstacle or f"Model {queue_key!r} was unloaded, or its replicas have failed."
                error = {"reason": "model_not_ready", "message": message}
            log.warning("job %s: %s", job.id, error["message"], extra=job.log_ids)
            with guarded(f"job {job.id}"):
                self.queues.fail(job, **error)


def main(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT."""
    client = connect(settings)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    keeper = Keeper(
        settings=settings,
        store=JobStore(client),
        registry=Registry(client),
        celery=make_celery(settings),
        catalog=load_catalog(settings, client),
    )
    with exporting(settings, keeper.store, keeper.catalog, stop):
        keeper.run(stop)
