"""A resident model: asks for jobs, feeds its engine process, passes the outputs to the journal.

Messages of Celery call `generate`, and one thread asks for jobs; one emitter thread owns every run, the journal and the
heartbeat. A job on which the worker raises fails alone, wherever that is.
"""

from __future__ import annotations

import time
from typing import cast

from celery import Celery

from gateway.cluster.desired import ReplicaSpec
from gateway.cluster.registry import Registry, Replica, ReplicaStatus
from gateway.cluster.trust import GAP_S
from gateway.jobs.record import Cause
from gateway.jobs.store import JobStore
from gateway.models.catalog import Model
from gateway.queue.names import wake_queue
from gateway.settings import Settings
from gateway.store.connection import NOT_NOW
from gateway.store.loop import Loop
from workers.engines.base import EngineConfig
from workers.engines.steps import StepFrame
from workers.handlers.base import EngineRun, Work
from workers.journal.claimed_job import ClaimedJob
from workers.journal.writer import Journaler
from workers.replica.admission import Admission
from workers.replica.consumer_watch import ConsumerWatch
from workers.replica.desired_watch import DesiredWatch
from workers.replica.engine_supervisor import EngineSupervisor
from workers.replica.heartbeat import ReplicaHeartbeat, record_of
from workers.replica.lifetime import Lifetime
from workers.replica.puller import Puller
from workers.replica.sequences import Sequences
from workers.replica.slots import Slots
from workers.stages.base import Startup

#: A job without news for this long (or a quarter of `stall_s`) has its `progress_at` refreshed while its engine works.
QUIET_S = 5.0


class ReplicaWorker:
    """One replica of one model on one device."""

    def __init__(
        self,
        *,
        settings: Settings,
        model: Model,
        spec: ReplicaSpec,
        incarnation: str,
        config: EngineConfig,
        work: Work,
        store: JobStore,
        registry: Registry,
        celery: Celery,
    ) -> None:
        self.settings = settings
        self.model = model
        self.config = config
        self.store = store
        self.registry = registry
        self.spec = spec
        self.incarnation = incarnation
        #: The queue of the messages that wake it.
        self.queue = wake_queue(spec.replica_id)
        self.life = Lifetime()
        self.heartbeat = ReplicaHeartbeat(record_of(spec, incarnation, config), registry, lease_s=settings.lease_s)
        self._sequences = Sequences()
        self._slots = Slots[EngineRun](config.max_batch_size)
        self._journaler = Journaler(
            settings=settings, store=store, celery=celery, owner=incarnation, on_drop=self._free_slots
        )
        self.task_events = self._journaler.task_events
        self.engine = EngineSupervisor(
            settings, config, self._sequences, self.heartbeat, self.life, probe=work.probe, on_death=self._give_back
        )
        self._admission = Admission(
            model,
            spec,
            work,
            journaler=self._journaler,
            registry=registry,
            engine=self.engine,
            sequences=self._sequences,
            on_turn=self.generate,
        )
        self._puller = Puller(
            model=model.id,
            queue=self.queue,
            slots=self._slots,
            admission=self._admission,
            journaler=self._journaler,
            registry=registry,
            engine=self.engine,
            life=self.life,
        )
        self.consumer = ConsumerWatch(self.life)
        #: Set when Celery consumes its queues.
        self.consuming = self.consumer.begun
        self._desired = DesiredWatch(store.redis, settings.data_dir, spec, self.heartbeat, self.life)
        self._looked_at = time.monotonic()
        self._emitter = Loop(self._emit, name="emitter", over=self._is_over)

    # -- called by the process and by Celery's threads

    def start(self) -> None:
        """Begin to send heartbeats."""
        self._emitter.start()
        self._puller.start()

    def generate(self, job_id: str = "") -> None:
        """There is work; `job_id` is a job that this replica itself is to take. Returns at once."""
        self._puller.wake(job_id)

    def stop(self, *, grace_s: float) -> None:
        """Let running jobs end for `grace_s`, then give the rest back to the queue and end the engine."""
        self.life.stopping.set()
        self.heartbeat.update(status=ReplicaStatus.UNLOADING)
        self._puller.close()
        deadline = time.monotonic() + grace_s
        while self._journaler.held and time.monotonic() < deadline:
            time.sleep(0.05)
        self._journaler.release(self._journaler.held, Cause.GIVEN_BACK)
        self.engine.kill()
        self._emitter.join(2)
        self.registry.deregister(self.incarnation)

    # -- its startup, see workers/stages: the methods of an EngineHost

    def start_engine(self) -> None:
        """Spawn the engine process, which begins to load."""
        self.engine.start()

    def await_engine(self, up: Startup, *, until_stage: str = "") -> None:
        """Follow the engine's loading, up to a stage or to its end. Raises: EngineStartFailed."""
        self.engine.wait(up, until_stage=until_stage)

    def end_engine(self) -> None:
        """End the engine process, which frees its memory."""
        self.engine.discard()

    def activate(self) -> None:
        """Take jobs from now on."""
        self.engine.activate()
        self._puller.wake()

    def announce(self) -> Replica:
        """Send a heartbeat at once that says that it serves. Returns the record."""
        self.heartbeat.update(status=ReplicaStatus.ACTIVE)
        self._desired.note_use()
        self._send_heartbeat()
        return self.heartbeat.record

    # -- the emitter thread

    def _is_over(self) -> bool:
        return self.life.stopping.is_set() and not self._journaler.held

    def _emit(self) -> None:
        now = time.monotonic()
        if now - self._looked_at > GAP_S:  # this process was suspended
            self.engine.excuse(now)
            self.consumer.excuse(now)
        self._looked_at = now
        self.engine.read(self._journaler.waits_s, self._on_step)
        self._journaler.tend(self._beat)

    def _on_step(self, frame: StepFrame) -> None:
        """Add the engine's outputs to their runs."""
        self._journaler.batch = frame.sequences
        tokens = 0
        stops: list[int] = []
        for output in frame.outputs:
            run = self._sequences.find(output.sequence_id)
            if run is None:
                continue
            before = run.new_tokens
            with self._journaler.bulkhead(run):
                if self._sequences.take(output):
                    stops.append(output.sequence_id)
                self._journaler.touch(run)
            made = run.new_tokens - before
            self._puller.count(run, made)
            tokens += made
        self.heartbeat.count(frame, tokens=tokens)
        self.engine.cancel(stops)

    def _free_slots(self, job: ClaimedJob) -> None:
        """Remove the remaining sequences of a job from the batch. It may have come and gone between two heartbeats."""
        self._desired.note_use()
        self.engine.cancel(self._sequences.remove(job))
        self._puller.ended(cast(EngineRun, job))

    def _give_back(self, cause: Cause) -> None:
        """Give the jobs of a dead engine back. Those without a sequence in it are not blamed."""
        self._journaler.flush(everything=True)
        held, inside = self._journaler.held, set(self._sequences.runs())
        self._journaler.release([run for run in held if run in inside], cause)
        self._journaler.release([run for run in held if run not in inside], Cause.GIVEN_BACK)

    def _beat(self) -> None:
        now = time.monotonic()
        try:
            self._send_heartbeat()
        except NOT_NOW:
            self.consumer.excuse(now)  # nor can the consumer reach Redis
            raise
        self.consumer.end_if_gone(now)
        # A prefill, or a wait for cache or for quarantine, is progress: an engine that hangs is killed by its watchdog.
        quiet_s = min(QUIET_S, self.settings.stall_s / 4)
        held = self._journaler.held
        self.store.progress(run.job for run in held if now - run.confirmed_at > quiet_s)
        self._desired.check(busy=bool(held))

    def _send_heartbeat(self) -> None:
        """Measure, and send a heartbeat. Raises: NOT_NOW."""
        now = time.monotonic()
        stalled, deaf = self.engine.is_stalled(now), self.consumer.is_deaf(now)
        idle_s = -1.0 if self._journaler.held else round(self._desired.idle_s, 1)
        figures = {"stalled": stalled, "deaf": deaf, "idle_s": idle_s, **self._puller.figures()}
        self.heartbeat.measure(self.engine.pids, **figures)
        if not self._sequences:
            self.heartbeat.update(sequences=0)
        self.heartbeat.send()
