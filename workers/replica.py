"""A resident model: claims jobs, feeds its engine process, hands what comes out to the journal.

Celery's threads call `generate` and wait; one emitter thread owns every run, the journal and the heartbeat.
"""

from __future__ import annotations

import datetime
import itertools
import logging
import os
import threading
import time
from dataclasses import replace

from celery import Celery

from gateway import keys
from gateway.catalog import Model
from gateway.desired import ASLEEP, UP, Desired, Wanted
from gateway.errors import HeadraceError
from gateway.inference import cancel, fail
from gateway.installation import Installation
from gateway.job import Job, JobState, new_claim_id
from gateway.jobs import JobStore
from gateway.registry import Registry, Replica
from gateway.settings import Settings
from gateway.takeover import Takeover
from workers.admission import Places
from workers.claimed import ClaimedJob
from workers.devices import look_at
from workers.engine_client import EngineDied, EngineProcess, EngineStartFailed, StepFrame
from workers.engines.base import EngineConfig, EngineInfo
from workers.journaler import Journaler
from workers.pace import Pace
from workers.stages.base import BringUp
from workers.vitals import TokenRate, resident_bytes, with_children
from workers.work import EngineRun, Work

log = logging.getLogger(__name__)

#: An engine with work that makes no step for so long counts as unhealthy.
STALLED_S = 5.0
#: An engine that was idle for so long is asked for one token.
PROBE_S = 30.0
#: Engine starts in a row that may fail before the worker gives up.
MAX_ENGINE_STARTS = 3
#: Sequence ids are given out in blocks of so many.
MAX_SEQUENCES_PER_JOB = 4096
#: A job that is under suspicion runs alone for so many tokens.
PROBATION_TOKENS = 8


class StageReached(Exception):
    """The engine's loading has come to the stage that somebody waits for."""


class ReplicaWorker:
    """One replica of one model on one device."""

    def __init__(
        self,
        *,
        settings: Settings,
        model: Model,
        wanted: Wanted,
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
        self.work = work
        self.store = store
        self.registry = registry
        self.wanted = wanted
        self.incarnation = incarnation
        self.desired = Desired(store.redis)
        self._installation = Installation(store.redis, settings.data_dir)
        self._journaler = Journaler(
            settings=settings, store=store, celery=celery, owner=self.incarnation, on_drop=self._free_place
        )
        self.record = Replica(
            incarnation=self.incarnation,
            replica_id=wanted.replica_id,
            model=model.id,
            node=wanted.node,
            device=wanted.device,
            status="loading",
            pid=os.getpid(),
            engine=config.engine,
            hardware=look_at(wanted.device).hardware,
            max_batch_size=config.max_batch_size,
            quantization=wanted.quantization,
            deployment_id=wanted.deployment_id,
        )
        self.ready = threading.Event()
        #: Celery takes hints from the queues.
        self.consuming = threading.Event()
        #: Nobody wants this replica any more: it was unloaded, replaced, or put to sleep.
        self.unwanted = threading.Event()
        #: The engine can't be started again.
        self.lost = threading.Event()
        #: The process is to end, for one of these reasons.
        self.over = threading.Event()
        self._stopping = threading.Event()
        self._used_at = time.monotonic()
        self._engine: EngineProcess | None = None
        self._info: EngineInfo | None = None
        self._ids = itertools.count(1, MAX_SEQUENCES_PER_JOB)
        self._sequences: dict[int, tuple[EngineRun, int]] = {}
        self._admission = threading.Lock()
        self._last_step = time.monotonic()
        self._places = Places(config.max_batch_size)
        self._rate = TokenRate()
        self._probing = False
        self._emitter = threading.Thread(target=self._emit, name="emitter", daemon=True)

    # -- called by the process and by Celery's threads

    def start(self) -> None:
        """Begin to beat."""
        self._emitter.start()

    def generate(self, job_id: str) -> None:
        """Claim the job and run it to its end, or until it is given back. A job that is not to be had is no error."""
        while not self.ready.wait(0.5):
            if self._stopping.is_set():
                return
        taken, run = 0, None
        try:
            with self._journaler.claiming(job_id) as mine:
                waiting = self.store.read(job_id) if mine else None
                if waiting is None or waiting.state is not JobState.QUEUED:
                    return
                taken = self._places.take(self.work.places(waiting))
                run = self._begin(job_id)
            if run is not None:
                run.finished.wait()
        finally:
            self._places.give_back(taken)

    def stop(self, *, grace_s: float) -> None:
        """Let running jobs end for `grace_s`, then give the rest back to the queue and end the engine."""
        self._stopping.set()
        deadline = time.monotonic() + grace_s
        while self._journaler.held and time.monotonic() < deadline:
            time.sleep(0.05)
        self._journaler.release(self._journaler.held, crashed=False)
        if self._engine is not None:
            self._engine.kill()
        self._emitter.join(2)
        self.registry.bury(self.incarnation)

    # -- the way up, see workers/stages

    def start_engine(self) -> None:
        """Spawn the engine process, which begins to load."""
        self._engine = EngineProcess.start(self.config, Pace.of(self.settings))

    def await_engine(self, up: BringUp, *, until_stage: str = "") -> None:
        """Follow the engine's loading, up to a stage of it or to its end. Raises: EngineStartFailed."""
        assert self._engine is not None

        def hear(stage: str, done: int, total: int) -> None:
            if stage == until_stage:
                raise StageReached
            up.report(done, total)

        try:
            self._info = self._engine.wait_ready(self.settings.load_timeout_s, hear, until=up.cancelled.is_set)
        except StageReached:
            return

    def end_engine(self) -> None:
        """Give back what was loaded."""
        if self._engine is not None:
            self._engine.kill()
            self._engine = None

    def activate(self) -> None:
        """Take jobs from now on."""
        assert self._engine is not None and self._info is not None
        self._last_step, self._probing = time.monotonic(), False
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        self.record = replace(
            self.record,
            engine_pid=self._engine.pid,
            loaded_at=now,
            message="",
            effective=dict(self._info.effective),
        )
        self.ready.set()

    def announce(self) -> None:
        """Say that it serves, at once and not with the next beat."""
        self.record = replace(self.record, status="active")
        self._used_at = time.monotonic()
        self._beat()

    # -- admission

    def _begin(self, job_id: str) -> EngineRun | None:
        """Claim the job and hand it to the engine. None if it is not to be had, or has ended already."""
        job = self.store.claim(job_id, model=self.model.id, owner=self.incarnation, claim=new_claim_id())
        run = self._prepare(job) if job else None
        if run is not None:
            self._admit(run)
        return run

    def _prepare(self, job: Job) -> EngineRun | None:
        """Tokenize, and replay the journal. A job that can't run is failed here."""
        if job.crashes >= self.settings.max_attempts:
            message = f"The engine died {job.crashes} times while it ran this job."
            self._fail(job, "engine_crashed", message)
            return None
        if job.cancel:
            self._fail(job, "", "")
            return None
        try:
            return self.work.prepare(job, Takeover.of(job, self.store.journal(job.id)) if job.seq else None)
        except HeadraceError as error:
            self._fail(job, error.reason, error.message)
            return None

    def _fail(self, job: Job, reason: str, message: str) -> None:
        if reason:
            fail(self.store, job, reason=reason, message=message, take_claim=job.claim)
        else:
            cancel(self.store, job, reason="client_request", take_claim=job.claim)

    def _admit(self, run: EngineRun) -> None:
        """Hand the run to the engine. A suspect waits until it is alone, and holds others back for a few tokens."""
        suspect = run.job.crashes >= 2
        with self._admission:
            while suspect and self._sequences and not self._stopping.is_set():
                time.sleep(0.01)
            info = self._info
            run.begin(
                {
                    "model": self.model.id,
                    "tokenizer": self.work.digest,
                    "weights": info.weights_digest if info else "",
                    "replica": self.record.replica_id,
                }
            )
            first_id = next(self._ids)
            requests = run.requests(first_id)
            for request in requests:
                self._sequences[request.sequence_id] = (run, request.sequence_id - first_id)
            self._journaler.hold(run)
            if not requests:
                return
            try:
                if self._engine is None:
                    raise EngineDied("the engine is not running")
                self._engine.submit(requests)
            except EngineDied:
                self._journaler.release([run], crashed=False)
                return
            while suspect and run.new_tokens < PROBATION_TOKENS and not run.finished.wait(0.01):
                pass

    # -- the emitter thread

    def _emit(self) -> None:
        while not (self._stopping.is_set() and not self._journaler.held):
            self._read_steps(timeout_s=self._journaler.waits_s)
            self._journaler.tend(self._beat)

    def _read_steps(self, *, timeout_s: float) -> None:
        """Take every frame that is there, so that a late emitter catches up in one append."""
        engine = self._engine
        if engine is None or not self.ready.is_set():
            time.sleep(min(timeout_s, 0.05))
            return
        try:
            frame = engine.read(timeout_s)
            while frame is not None:
                self._on_step(frame)
                frame = engine.read(0)
            self._watch_engine(engine)
        except EngineDied as error:
            self._on_engine_death(str(error))

    def _on_step(self, frame: StepFrame) -> None:
        now = time.monotonic()
        self._last_step = now
        tokens = 0
        stops: list[int] = []
        runs: list[EngineRun] = []
        for output in frame.outputs:
            run, index = self._sequences.get(output.sequence_id, (None, 0))
            if run is None:
                continue
            runs.append(run)
            tokens -= run.new_tokens
            if run.take(index, output):
                stops.append(output.sequence_id)
            tokens += run.new_tokens
            if output.finish_reason or output.sequence_id in stops:
                self._sequences.pop(output.sequence_id, None)
        self._journaler.touch(*runs)
        self._rate.add(tokens)
        self._probing = False
        self.record = replace(self.record, sequences=frame.sequences, steps=self.record.steps + frame.steps)
        if stops and self._engine is not None:
            self._engine.cancel(stops)

    def _free_place(self, job: ClaimedJob) -> None:
        """Take what is left of a job out of the batch."""
        ids = [i for i, (owner, _) in list(self._sequences.items()) if owner is job]
        for sequence_id in ids:
            self._sequences.pop(sequence_id, None)
        if ids and self._engine is not None:
            self._engine.cancel(ids)

    # -- life and death

    def _beat(self) -> None:
        now = time.monotonic()
        # An engine has children only if processes share its model.
        alone = self.config.tensor_parallel_size == 1
        engine = [] if not self._engine else [self._engine.pid] if alone else with_children(self._engine.pid)
        pids = [os.getpid(), *engine]
        self.record = replace(
            self.record,
            tokens_per_second=self._rate.per_second(),
            sequences=self.record.sequences if self._sequences else 0,
            stalled=bool(self._sequences or self._probing) and now - self._last_step > STALLED_S,
            memory_bytes=resident_bytes(pids),
        )
        self.registry.beat(self.record, lease_s=self.settings.lease_s)
        self._look_at_desired()

    def _look_at_desired(self) -> None:
        """Notice that nobody wants this replica, or that nobody has used it for so long that it may sleep."""
        if self.unwanted.is_set():
            return
        wanted = self.desired.get(*self.wanted.place, self.wanted.replica_id)
        if wanted is None and self._installation.look():
            return  # what is wanted is lost, which is not to be wanted no more
        if wanted is None or wanted.state != UP:
            self._leave()
        elif self._journaler.held or self.record.status != "active":
            self._used_at = time.monotonic()
        elif self._idle(wanted) and self.desired.change(wanted, state=ASLEEP):
            log.info("nobody has asked for %s for %.0f s; it sleeps", self.model.id, wanted.idle_unload_s)
            self._leave()

    def _leave(self) -> None:
        self.record = replace(self.record, status="unloading")
        self.unwanted.set()
        self.over.set()
        self.registry.beat(self.record, lease_s=self.settings.lease_s)

    def _idle(self, wanted: Wanted) -> bool:
        for_s = time.monotonic() - self._used_at
        return 0 < wanted.idle_unload_s < for_s and not self.store.redis.zcard(keys.queued(self.model.id))

    def _watch_engine(self, engine: EngineProcess) -> None:
        """A heartbeat proves progress: an engine that has work but makes no step is killed."""
        if not self._sequences and not self._probing:
            if time.monotonic() - self._last_step > PROBE_S:
                self._probe(engine)
        elif time.monotonic() - self._last_step > self.settings.engine_stall_s:
            log.error("engine %d made no step for %.0f s, killed", engine.pid, self.settings.engine_stall_s)
            self._last_step = time.monotonic()
            engine.kill()

    def _probe(self, engine: EngineProcess) -> None:
        """Ask an idle engine for something small, so that its health is known before somebody needs it."""
        self._probing, self._last_step = True, time.monotonic()
        engine.submit([self.work.probe()])

    def _on_engine_death(self, why: str) -> None:
        if self._stopping.is_set():
            return
        log.error("engine died (%s); %d jobs go back to the queue", why, len(self._journaler.held))
        self.ready.clear()
        self.record = replace(self.record, status="loading", engine_pid=0, sequences=0)
        self._journaler.flush(everything=True)
        self._journaler.release(self._journaler.held, crashed=True)
        threading.Thread(target=self._restart_engine, name="restart-engine", daemon=True).start()

    def _restart_engine(self) -> None:
        """Start the engine process anew; after a few failures in a row the worker ends, and its agent decides."""
        for attempt in range(1, MAX_ENGINE_STARTS + 1):
            if self._stopping.is_set() or self.unwanted.is_set():
                return
            started = time.monotonic()
            engine = EngineProcess.start(self.config, Pace.of(self.settings))
            try:
                self._info = engine.wait_ready(self.settings.load_timeout_s, until=self._stopping.is_set)
            except EngineStartFailed as error:
                log.error(
                    "engine start %d of %d failed: %s: %s", attempt, MAX_ENGINE_STARTS, error.reason, error.message
                )
                engine.close()
                self.record = replace(self.record, message=f"{error.reason}: {error.message}")
                time.sleep(min(2.0**attempt, 10) / 4)
                continue
            log.info("engine %d ready after %.1f s", engine.pid, time.monotonic() - started)
            self._engine = engine
            self.activate()
            self.record = replace(self.record, status="active")
            return
        self.record = replace(self.record, status="failed")
        self.lost.set()
        self.over.set()
