"""The agent: `python -m workers.agent`. One per device: makes its desired state true, and runs deployments.

Model workers run in sessions of their own and outlive their agent; a new agent adopts them by their locks.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import threading
import time
from collections.abc import Mapping
from dataclasses import replace

import redis
from celery import Celery
from celery.signals import worker_shutting_down

from gateway.cluster.desired import Desired, ReplicaSpec, SpecState
from gateway.cluster.known_footprints import Footprints
from gateway.cluster.nodes import NOTE_S, Nodes, parse_labels
from gateway.cluster.registry import Device, Registry
from gateway.deployments.reasons import SourceFailed
from gateway.jobs.record import Cause
from gateway.jobs.recovery import reclaim_jobs_of
from gateway.jobs.store import JobStore
from gateway.models.catalog import Catalog, load_catalog
from gateway.models.entry import Model
from gateway.models.footprint import Footprint
from gateway.process import log_files
from gateway.process.locks import drop_lock, hold_lock, last_holder
from gateway.process.version import own_version
from gateway.queue.celery_app import make_celery
from gateway.queue.names import device_queue
from gateway.settings import Settings
from gateway.store.cached import Cached
from gateway.store.connection import NOT_NOW, connect
from gateway.store.installation import Installation
from gateway.store.loop import Loop, guarded
from workers.agent.deployment_worker import DeploymentWorker
from workers.agent.discards import Discards
from workers.agent.replica_locks import locks_here, replicas_here
from workers.agent.replica_supervisor import Starter
from workers.agent.residents import Residents
from workers.agent.turns import Turns
from workers.celery_worker import consume
from workers.host.address import address_towards
from workers.host.devices import describe_device, installed_engines
from workers.sources import source_of

log = logging.getLogger("headrace.agent")

#: Pause between two reconciliations.
LOOK_S = 0.4
#: Seconds between two searches for replicas, or their locks, that this agent did not start.
SEARCH_S = 2.0
#: Seconds between two checks of the catalog, and between two inspections of the same models, since a hub may answer
#: later, and files may arrive.
CATALOG_S, INSPECT_S = 0.5, 300.0
#: How often it is looked which engines are installed.
ENGINES_S = 5.0
#: Deployments that one agent runs at once; the others wait.
CONCURRENCY = 8


class Agent:
    """Makes the desired state of one device true."""

    def __init__(
        self, settings: Settings, client: redis.Redis, celery: Celery, catalog: Catalog, incarnation: str
    ) -> None:
        self.settings = settings
        self.catalog = catalog
        self.redis = client
        self.registry = Registry(client)
        self.desired = Desired(client)
        self.installation = Installation(client, settings.data_dir)
        self.footprints = Footprints(client)
        self.incarnation = incarnation
        self.deployments = DeploymentWorker(
            settings, JobStore(client), celery, catalog=catalog, device=self.describe, owner=incarnation
        )
        self._discards = Discards(settings, catalog)
        self._nodes = Nodes(client)
        self._residents = Residents(settings, self.desired, catalog, self._nodes)
        self.stop = threading.Event()
        self._starters: dict[str, Starter] = {}
        self._turns = Turns(settings, client)
        self._next_search = self._next_inspection = 0.0
        #: The models that were inspected, and those of them whose downloads were complete.
        self._inspected: tuple[list[Model], list[str]] = ([], [])
        self._engines: Cached[tuple[str, ...]] = Cached(ENGINES_S)
        self._labels = parse_labels(settings.labels)
        self._host = address_towards(settings.effective_redis_url)
        self._next_note = 0.0

    def start(self) -> None:
        """Raises: InvalidSetting if this machine has no such device."""
        describe_device(self.settings.device)
        Loop(self.reconcile, name="agent", over=lambda: self.stop.wait(LOOK_S)).start()
        Loop(self._measure, name="footprints", over=lambda: self.stop.wait(CATALOG_S)).start()
        Loop(self._tend_logs, name="logs", over=lambda: self.stop.wait(log_files.LOOK_S)).start()
        self.deployments.start(self._beat)

    def deploy(self, job_id: str) -> None:
        """Run a deployment. Does nothing if it is taken, ended or gone."""
        self.deployments.deploy(job_id)

    def end(self) -> None:
        """Give unfinished deployments back. The replicas live on."""
        self.stop.set()
        self.deployments.stop()
        self.registry.deregister(self.incarnation)

    def reconcile(self) -> None:
        """Start missing replicas, and stop those that are not desired. Does nothing while the desired state is lost."""
        if self.installation.check():
            return
        specs = self.desired.on(self.settings.node, self.settings.device)
        self._residents.settle(specs.values())
        for name, one in specs.items():
            with guarded(f"replica {name}"):
                if one and one.state == SpecState.RUNNING:
                    if name not in self._starters:
                        self._starters[name] = self._starter(one)
                    self._starters[name].ensure_running(one)
        if time.monotonic() >= self._next_search:
            self._next_search = time.monotonic() + SEARCH_S
            for search in (self._adopt, self._sweep):
                with guarded(search.__qualname__):
                    search()
        for name in [name for name in self._starters if not _may_stay(specs, name)]:
            with guarded(f"replica {name}"):
                if self._starters[name].ensure_stopped():
                    del self._starters[name]

    def _sweep(self) -> None:
        """Remove the lock files of this device's replicas that ended before this agent saw them."""
        for name in locks_here(self.settings):
            if name not in self._starters:
                drop_lock(self.settings.data_dir, name)

    def _adopt(self) -> None:
        """Adopt living replicas that were no longer desired when this agent started, to see that they end."""
        for replica in replicas_here(self.settings, self.registry):
            if replica.replica_id not in self._starters:
                spec = ReplicaSpec(replica.replica_id, replica.model, replica.node, replica.device)
                self._starters[replica.replica_id] = self._starter(spec)

    def _starter(self, spec: ReplicaSpec) -> Starter:
        return Starter(self.settings, self.redis, self.catalog, spec, turns=self._turns, on_death=self._recover_from)

    def _recover_from(self, incarnation: str, cause: Cause) -> None:
        reclaim_jobs_of(self.deployments.store, self.deployments.celery, incarnation, cause)

    def describe(self) -> Device:
        """The device as it is now."""
        facts = describe_device(self.settings.device)
        return Device(
            incarnation=self.incarnation,
            node=self.settings.node,
            device=self.settings.device,
            pid=os.getpid(),
            hardware=facts.hardware,
            memory_total=facts.memory_total,
            memory_free=facts.memory_free,
            engines=self._engines.get(lambda: installed_engines(self.settings.data_dir)),
            inspected=bool(self._next_inspection),
            version=own_version(),
            host=self._host,
            labels=self._labels,
            seen_ms=self.deployments.store.clock.estimated_now_ms(),
        )

    def _tend_logs(self) -> None:
        log_files.tend_model_logs(self.settings)

    def _beat(self) -> None:
        if self.stop.is_set():
            return
        device = self.describe()
        self.registry.beat_device(device, lease_s=self.settings.lease_s)
        if time.monotonic() >= self._next_note:
            self._nodes.note(device)
            self._next_note = time.monotonic() + NOTE_S

    def _measure(self) -> None:
        """Publish the sizes of the models, again whenever the catalog has changed, or a download has come or gone."""
        models = [model for model in self.catalog if model.deployable]
        seen = models, [model.id for model in models if model.downloadable and self._is_here(model)]
        if seen != self._inspected or time.monotonic() > self._next_inspection:
            self.footprints.publish(self.settings.node, self.settings.device, self._inspect(models))
            self._inspected, self._next_inspection = seen, time.monotonic() + INSPECT_S
        self._discards.step({starter.spec.model for starter in list(self._starters.values())})

    def _is_here(self, model: Model) -> bool:
        """Whether its download is complete."""
        with guarded(f"{model.id} can't be looked for"), contextlib.suppress(SourceFailed):
            return source_of(model, self.settings).present()
        return False

    def _inspect(self, models: list[Model]) -> dict[str, Footprint]:
        found: dict[str, Footprint] = {}
        for model in models:
            with guarded(f"{model.id} can't be inspected"):
                try:
                    source = source_of(model, self.settings)
                    found[model.id] = replace(source.inspect(is_cancelled=self.stop.is_set), here=source.present())
                except SourceFailed as error:
                    log.debug("%s can't be deployed here: %s", model.id, error.message)
        return found


def _may_stay(specs: Mapping[str, ReplicaSpec | None], name: str) -> bool:
    """Whether a replica is desired. One whose spec can't be read stays as it is."""
    if name not in specs:
        return False
    one = specs[name]
    return one is None or one.state == SpecState.RUNNING


def main(settings: Settings) -> int:
    """A Celery worker for the device's queue, with the agent beside it. Raises: HeadraceError if it can't begin."""
    name = f"agent.{settings.node}.{settings.device}"
    incarnation = f"{name}:{secrets.token_hex(4)}"
    before = last_holder(settings.data_dir, name)
    if hold_lock(settings.data_dir, name, incarnation) is None:
        log.error("an agent for %s.%s runs already", settings.node, settings.device)
        return 1
    app = make_celery(settings)
    client = connect(settings, retries=3)
    if _taken(settings, client, before.incarnation if before else ""):
        log.error("an agent for %s.%s runs on another machine; choose another --node", settings.node, settings.device)
        return 1
    agent = Agent(settings, client, app, load_catalog(settings, client), incarnation)
    agent.start()
    app.agent = agent
    worker_shutting_down.connect(lambda **_: threading.Thread(target=agent.end, daemon=True).start(), weak=False)
    consume(
        app,
        settings,
        hostname=f"agent@{settings.node}.{settings.device}",
        queues=lambda: [device_queue(settings.node, settings.device)],
        concurrency=CONCURRENCY,
    )
    return 0


def _taken(settings: Settings, client: redis.Redis, before: str) -> bool:
    """Whether another living agent has this name. `before` is its last holder on this machine, known to be dead.

    An agent that died on another machine counts as alive until its lease expires.
    """
    registry = Registry(client)
    deadline = time.monotonic() + 2 * settings.lease_s
    while time.monotonic() < deadline:
        try:
            if before:
                registry.deregister(before)
            names = {device.address for device in registry.devices()}
        except NOT_NOW:
            return False  # Redis is away: rely on the lock of this machine
        if (settings.node, settings.device) not in names:
            return False
        time.sleep(0.1)
    return True
