"""A simulated replica: the product's own worker, whose threads are steps that the simulation makes.

Real are its heartbeat, its watch over the desired state, how it asks for jobs, claims them, writes their journals and
audits them, and the fake engine with its batch. Not there are its process, the Celery consumer that is told of jobs,
and the engine's process and socket.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from celery import Celery

from gateway.cluster.desired import ReplicaSpec
from gateway.cluster.registry import Registry, ReplicaStatus
from gateway.jobs.store import JobStore
from gateway.models.catalog import Catalog
from gateway.models.engines import spec_of
from gateway.settings import Settings
from gateway.store.codec import dumps, loads
from tests.stack import eventually
from workers.engines import load_engine
from workers.engines.base import EngineConfig, SequenceRequest
from workers.engines.flush_interval import FlushInterval
from workers.engines.process import Batch, Outbox
from workers.engines.steps import StepFrame
from workers.handlers.base import load_work
from workers.replica.__main__ import engine_config
from workers.replica.worker import ReplicaWorker

#: Threads that prepare jobs, for all replicas of a simulation.
PREPARERS = ThreadPoolExecutor(2, thread_name_prefix="prepare")


class EngineHere:
    """What `EngineProcess` is to a worker, in this process."""

    pid = 0

    def __init__(self, config: EngineConfig) -> None:
        self.engine = load_engine(spec_of(config.engine).implementation, config, lambda *_: None)
        self._batch = Batch(self.engine)
        self._frames: deque[Any] = deque()
        self._outbox = Outbox(self._frames.append, FlushInterval())

    def submit(self, requests: Sequence[SequenceRequest]) -> None:
        """Add sequences to the batch."""
        self._batch.obey(loads(dumps({"op": "add", "requests": requests})))

    def cancel(self, sequence_ids: Sequence[int]) -> None:
        """Take sequences out."""
        self._batch.obey({"op": "cancel", "ids": list(sequence_ids)})

    def read(self, timeout_s: float) -> StepFrame | None:
        """With time, make a step; the next frame, if there is one."""
        if timeout_s and self.engine.has_work():
            outputs = self._batch.step()
            sequences = self.engine.num_sequences()
            self._outbox.put(outputs, step_s=0.001, sequences=sequences, streams=sequences)
        return StepFrame.parse(self._frames.popleft()) if self._frames else None


class SimulatedReplica:
    """One replica that serves, and does only what it is told to."""

    def __init__(
        self, settings: Settings, catalog: Catalog, spec: ReplicaSpec, store: JobStore, registry: Registry, app: Celery
    ) -> None:
        model = catalog.get(spec.model)
        config = engine_config(model, settings, spec, "")
        self.spec = spec
        self.worker = ReplicaWorker(
            settings=settings,
            model=model,
            spec=spec,
            incarnation=f"{spec.replica_id}:{secrets.token_hex(4)}",
            config=config,
            work=load_work(config, model, catalog),
            store=store,
            registry=registry,
            celery=app,
        )
        supervisor, engine = self.worker.engine, EngineHere(config)
        supervisor._process, supervisor.info = engine, engine.engine.info  # type: ignore[assignment]
        self.journaler, self._puller = self.worker._journaler, self.worker._puller
        self._puller._preparers = PREPARERS
        supervisor.activate()
        self.worker.heartbeat.update(status=ReplicaStatus.ACTIVE, planned_bytes=10**9)
        self.worker.heartbeat.send()

    def beat(self, *, audits: bool) -> None:
        """What it does once a lease's fifth; and its audit, which comes every two seconds. Its jobs are quiet, which
        costs the most.
        """
        for job in self.journaler.held:
            job.confirmed_at = float("-inf")
        self.journaler._next_beat = 0.0
        self.journaler._next_audit = 0.0 if audits else float("inf")
        self.journaler.tend(self.worker._beat)

    def ask(self) -> None:
        """Ask for jobs, as it does once a second, and whenever it is told to."""
        self._puller.wake()
        self._puller._step()

    def take(self) -> None:
        """Ask for jobs, and hold what is offered."""
        before = len(self.journaler.held)
        self.ask()
        eventually(lambda: len(self.journaler.held) > before, "a job is held")
        self.journaler.flush()

    def work(self) -> None:
        """Make a token for each of its jobs, and write what is new."""
        self.worker.engine.read(1.0, self.worker._on_step)
        self.journaler.flush()
