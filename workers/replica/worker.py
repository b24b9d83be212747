"""A resident model: claims jobs, feeds its engine process, hands what comes out to the journal.

Celery's threads call `generate` and wait; one emitter thread owns every run, the journal and the heartbeat. A job on
which the worker raises fails alone, wherever that is.
"""

from __future__ import annotations

import contextlib
import datetime
import logging
import os
import threading
import time
from typing import Any

from celery import Celery

from gateway.access.limits import Limits
from gateway.cluster.desired import Desired, SpecState, Wanted
from gateway.cluster.registry import Registry, Replica
from gateway.cluster.trust import GAP_S
from gateway.errors import Unreadable
from gateway.jobs.record import Cause, Job
from gateway.jobs.store import JobStore
from gateway.jobs.takeover import Takeover
from gateway.models.catalog import Model
from gateway.process.crashes import report
from gateway.process.start import LOST_A_LOOP
from gateway.queue.queues import Priority, replica_queue, try_hint
from gateway.settings import Settings
from gateway.store import keys
from gateway.store.connection import NOT_NOW
from gateway.store.installation import Installation
from gateway.store.loop import Loop
from gateway.store.unreadable import note
from workers.engines.base import EngineConfig, EngineInfo
from workers.engines.steps import StepFrame
from workers.handlers.base import EngineRun, Work
from workers.handlers.prompts import Places
from workers.host.devices import look_at
from workers.host.vitals import with_children
from workers.journal.claim_loop import ClaimLoop
from workers.journal.claimed_job import ClaimedJob
from workers.journal.pace import pace_of
from workers.journal.quarantine import SUSPECT_CRASHES, PoisonRule, Turnstile
from workers.journal.writer import Journaler
from workers.replica.engine_client import EngineDied, EngineProcess
from workers.replica.equals import EqualWeights
from workers.replica.heartbeat import ReplicaHeartbeat
from workers.replica.sequences import Sequences
from workers.replica.stall import stall_limit_s
from workers.stages.base import BringUp

log = logging.getLogger(__name__)

#: An engine with work that makes no step for so long counts as unhealthy.
STALLED_S = 5.0
#: A worker whose consumer of hints does not look at its queues for so long is unhealthy, and ends after so long.
DEAF_S, GONE_DEAF_S = 5.0, 60.0
#: An engine that was idle for so long is asked for one token.
PROBE_S = 30.0
#: Engine starts in a row that may fail before the worker gives up.
MAX_ENGINE_STARTS = 3
#: A job under suspicion runs alone for so many tokens.
PROBATION_TOKENS = 8
#: A job that has brought nothing for so long (or a quarter of `stall_s`) is said to go on, while its engine does.
QUIET_S = 5.0


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
        self.celery = celery
        self.incarnation = incarnation
        self.desired = Desired(store.redis)
        self._installation = Installation(store.redis, settings.data_dir)
        self._journaler = Journaler(
            settings=settings, store=store, celery=celery, owner=self.incarnation, on_drop=self._free_place
        )
        rule = PoisonRule("The engine, or the worker around it,", settings.max_attempts, "engine_crashed")
        self._claims = ClaimLoop(self._journaler, rule)
        self._limits = Limits(store.redis, store.scripts)
        self._equals = EqualWeights(store=store, registry=registry, celery=celery)
        record = Replica(
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
        self.heartbeat = ReplicaHeartbeat(record, registry, lease_s=settings.lease_s)
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
        #: When the consumer of hints was last at work; 0 = it has not begun.
        self._consumed_at = 0.0
        self._used_at = time.monotonic()
        self._engine: EngineProcess | None = None
        self._info: EngineInfo | None = None
        self._sequences = Sequences()
        #: Whose turn it is to add to the batch: a suspect keeps it while it is alone there.
        self._admission = threading.Lock()
        self._suspects = Turnstile(1, self._call_suspect)
        self._last_step = self._looked_at = time.monotonic()
        self._places = Places(config.max_batch_size)
        self._probing = False
        #: Since when the engine has fewer sequences than it was given.
        self._short_since = 0.0
        self._emitter = Loop(self._emit, name="emitter", over=self._is_over)

    # -- called by the process and by Celery's threads

    def start(self) -> None:
        """Begin to beat."""
        self._emitter.start()

    def generate(self, job_id: str) -> None:
        """Claim the job and run it to its end, or until it is given back.

        Does nothing if the job is taken, ended or gone.
        """
        while not self.ready.wait(0.5):
            if self._stopping.is_set():
                return
        with contextlib.ExitStack() as places:
            run = self._claims.take(job_id, lambda waiting: self._admit(waiting, places))
            if run is not None:
                run.finished.wait()

    def stop(self, *, grace_s: float) -> None:
        """Let running jobs end for `grace_s`, then give the rest back to the queue and end the engine."""
        self._stopping.set()
        deadline = time.monotonic() + grace_s
        while self._journaler.held and time.monotonic() < deadline:
            time.sleep(0.05)
        self._journaler.release(self._journaler.held, Cause.GIVEN_BACK)
        if self._engine is not None:
            self._engine.kill()
        self._emitter.join(2)
        self.registry.bury(self.incarnation)

    # -- the way up, see workers/stages

    def start_engine(self) -> None:
        """Spawn the engine process, which begins to load."""
        self._engine = EngineProcess.start(self.config, pace_of(self.settings))

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
        self._last_step, self._probing, self._short_since = time.monotonic(), False, 0.0
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        self.heartbeat.update(
            engine_pid=self._engine.pid,
            loaded_at=now,
            message="",
            effective=dict(self._info.effective),
            weights=self._info.weights_digest,
        )
        self.ready.set()

    def announce(self) -> Replica:
        """Say that it serves, at once and not with the next beat. Returns what was said."""
        self.heartbeat.update(status="active")
        self._used_at = time.monotonic()
        self._send_heartbeat()
        return self.heartbeat.record

    # -- admission

    def _admit(self, waiting: Job, places: contextlib.ExitStack) -> EngineRun | None:
        """Claim a job and hand it to the engine, unless it is left to others. None if nothing comes of it here."""
        if self._equals.leave(waiting, self._info.weights_digest if self._info else ""):
            return None
        begin = self._begin_alone if waiting.crashes >= SUSPECT_CRASHES else self._begin
        return begin(waiting, places)

    def _begin(self, waiting: Job, places: contextlib.ExitStack) -> EngineRun | None:
        """Claim the job and hand it to the engine. None if it is not to be had, or has ended already."""
        self._take_places(waiting, places)
        run = self._claim(waiting.id)
        if run is None:
            return None
        if run.job.crashes >= SUSPECT_CRASHES:  # another engine died of it while it waited for places here
            self._journaler.release([run], Cause.GIVEN_BACK)
            return None
        with self._admission:
            self._submit(run)
        return run

    def _begin_alone(self, waiting: Job, places: contextlib.ExitStack) -> EngineRun | None:
        """The same for a job that may kill engines: the others leave the batch until it has made a few tokens.

        They go on from where they are, so that they lose the time of these tokens and nothing else. Until it is its
        turn to be alone, it is left in the queue, and nobody waits for it.
        """
        with self._suspects.turn(waiting.id) as mine:
            if not mine:
                return None
            self._take_places(waiting, places)
            run = self._claim(waiting.id)
            if run is None:
                return None
            with self._admission:
                others = self._sequences.runs()
                self._cancel_in_engine(self._sequences.remove_all())
                self._submit(run)
                while run.new_tokens < PROBATION_TOKENS and run.state is None and not run.finished.wait(0.01):
                    continue
                for other in others:
                    self._submit(other)
        return run

    def _take_places(self, waiting: Job, places: contextlib.ExitStack) -> None:
        """Wait for the places of a job; `places` gives them back."""
        places.callback(self._places.give_back, self._places.take(self.work.places(waiting)))

    def _call_suspect(self, job_id: str) -> None:
        """It is the turn of a job that was left in the queue."""
        queue = replica_queue(self.wanted.node, self.wanted.device, self.model.id)
        try_hint(self.celery, job_id, place=self.model.id, queue=queue, priority=Priority.RECOVERED)

    def _claim(self, job_id: str) -> EngineRun | None:
        """Claim a job and hold it. None if somebody else was faster, or if it has ended already."""
        return self._claims.claim(job_id, self._prepare, model=self.model.id)

    def _prepare(self, job: Job) -> EngineRun:
        """Tokenize, and replay the journal. Raises: HeadraceError if the job can't run."""
        run = self.work.prepare(job, Takeover.of(job, self.store.journal(job.id)) if job.seq else None)
        self._limits.correct(job.key_id, job.id, reserved=job.reserved, tokens=run.most_tokens)
        run.begin(self._about())
        return run

    def _about(self) -> dict[str, Any]:
        """What the first event of a claim says of who runs the job."""
        return {
            "model": self.model.id,
            "tokenizer": self.work.digest,
            "weights": self._info.weights_digest if self._info else "",
            "replica": self.heartbeat.record.replica_id,
        }

    def _submit(self, run: EngineRun) -> None:
        """Add a held run to the batch, from where it is. Nothing if it is over."""
        with self._journaler.bulkhead(run):
            requests = self._sequences.add(run)
            if not requests:
                return
            try:
                if self._engine is None:
                    raise EngineDied("the engine is not running")
                self._engine.submit(requests)
            except EngineDied:
                self._journaler.release([run], Cause.GIVEN_BACK)

    # -- the emitter thread

    def _is_over(self) -> bool:
        return self._stopping.is_set() and not self._journaler.held

    def _emit(self) -> None:
        self._read_steps(timeout_s=self._journaler.waits_s)
        self._journaler.tend(self._beat)

    def _read_steps(self, *, timeout_s: float) -> None:
        """Take every frame that is there, so that a late emitter catches up in one append."""
        now = time.monotonic()
        if now - self._looked_at > GAP_S:  # this process was stopped, and so may be the engine
            self._last_step, self._short_since = now, 0.0
            self._excuse_ears(now)
        self._looked_at = now
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
            self._on_engine_death(engine, str(error))

    def _on_step(self, frame: StepFrame) -> None:
        self._last_step = time.monotonic()
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
            tokens += run.new_tokens - before
        self._probing = False
        self.heartbeat.count(steps=frame.steps, tokens=tokens, sequences=frame.sequences)
        self._cancel_in_engine(stops)

    def _free_place(self, job: ClaimedJob) -> None:
        """Take what is left of a job out of the batch."""
        self._cancel_in_engine(self._sequences.remove(job))

    def _cancel_in_engine(self, sequence_ids: list[int]) -> None:
        if sequence_ids and self._engine is not None:
            self._engine.cancel(sequence_ids)

    # -- life and death

    def _beat(self) -> None:
        now = time.monotonic()
        try:
            self._send_heartbeat()
        except NOT_NOW:
            self._excuse_ears(now)  # the consumer can't reach it either
            raise
        if self._silent_s(now) > GONE_DEAF_S:
            report("its consumer of hints has ended")
            log.critical("no hints are taken for %.0f s, so this process ends", GONE_DEAF_S)
            os._exit(LOST_A_LOOP)
        # A prefill, or a wait for cache or for quarantine, is progress: an engine that hangs is killed by its watchdog.
        quiet_s = min(QUIET_S, self.settings.stall_s / 4)
        self.store.progress(run.job for run in self._journaler.held if now - run.confirmed_at > quiet_s)
        self._look_at_desired()

    def _send_heartbeat(self) -> None:
        """Tell how it is now. Raises: NOT_NOW."""
        now, engine = time.monotonic(), self._engine
        # An engine has children only if processes share its model.
        alone = self.config.tensor_parallel_size == 1
        self.heartbeat.measure(
            [] if engine is None else [engine.pid] if alone else with_children(engine.pid),
            stalled=bool(self._sequences or self._probing) and now - self._last_step > STALLED_S,
            deaf=self._silent_s(now) > DEAF_S,
        )
        if not self._sequences:
            self.heartbeat.update(sequences=0)
        self.heartbeat.send()

    def consumes(self) -> None:
        """The consumer of hints lives, and takes them from the right queues."""
        self._consumed_at = time.monotonic()

    def _silent_s(self, now: float) -> float:
        """For how long the consumer of hints has not been at work, though it should."""
        over = self._consumed_at == 0 or self._stopping.is_set() or self.over.is_set()
        return 0.0 if over else now - self._consumed_at

    def _excuse_ears(self, now: float) -> None:
        """It could not be at work until now."""
        self._consumed_at = self._consumed_at and now

    def _look_at_desired(self) -> None:
        """Notice that nobody wants this replica, or that nobody has used it for so long that it may sleep."""
        if self.unwanted.is_set():
            return
        try:
            wanted = self.desired.get(*self.wanted.place, self.wanted.replica_id)
        except Unreadable as error:
            note(self.wanted.replica_id, error)
            return  # it is wanted, if nobody knows how
        if wanted is None and self._installation.look():
            return  # what is wanted is lost, which is not to be wanted no more
        if wanted is None or wanted.state != SpecState.UP:
            self._leave()
        elif self._journaler.held or self.heartbeat.record.status != "active":
            self._used_at = time.monotonic()
        elif self._idle(wanted) and self.desired.change(wanted, state=SpecState.ASLEEP):
            log.info("nobody has asked for %s for %.0f s; it sleeps", self.model.id, wanted.idle_unload_s)
            self._leave()

    def _leave(self) -> None:
        self.heartbeat.update(status="unloading")
        self.unwanted.set()
        self.over.set()
        self.heartbeat.send()

    def _idle(self, wanted: Wanted) -> bool:
        for_s = time.monotonic() - self._used_at
        return 0 < wanted.idle_unload_s < for_s and not self.store.redis.zcard(keys.queued(self.model.id))

    def _watch_engine(self, engine: EngineProcess) -> None:
        """A heartbeat proves progress: an engine that has work but makes no step, or has lost a sequence, is killed."""
        now, limit_s = time.monotonic(), self._stall_limit_s()
        if self.heartbeat.record.sequences >= len(self._sequences):
            self._short_since = 0.0
        self._short_since = self._short_since or now
        if not self._sequences and not self._probing:
            if now - self._last_step > PROBE_S:
                self._probe(engine)
        elif now - self._last_step > limit_s:
            log.error("engine %d made no step for %.0f s, killed", engine.pid, limit_s)
            self._last_step = now
            engine.kill()
        elif self._sequences and now - self._short_since > limit_s:
            log.error("engine %d has fewer sequences than it was given for %.0f s, killed", engine.pid, limit_s)
            self._short_since = now
            engine.kill()

    def _stall_limit_s(self) -> float:
        prefilling = any(run.new_tokens == 0 for run in self._sequences.runs())
        warm_up_step_s = self._info.warm_up_step_s if self._info else 0.0
        return stall_limit_s(self.settings.engine_stall_s, warm_up_step_s, prefilling=prefilling)

    def _probe(self, engine: EngineProcess) -> None:
        """Ask an idle engine for something small, so that its health is known before somebody needs it."""
        self._probing, self._last_step = True, time.monotonic()
        engine.submit([self.work.probe()])

    def _on_engine_death(self, engine: EngineProcess, why: str) -> None:
        if self._stopping.is_set():
            return
        log.error("engine died (%s); %d jobs go back to the queue", why, len(self._journaler.held))
        self.ready.clear()
        self.heartbeat.update(status="loading", engine_pid=0, sequences=0)
        try:
            self._journaler.flush(everything=True)
            cause = Cause.LOST if engine.was_killed else Cause.CRASHED
            held, inside = self._journaler.held, set(self._sequences.runs())
            self._journaler.release([run for run in held if run in inside], cause)
            self._journaler.release([run for run in held if run not in inside], Cause.GIVEN_BACK)
        finally:
            threading.Thread(target=self._restart_engine, name="restart-engine", daemon=True).start()

    def _restart_engine(self) -> None:
        """Start the engine process anew; after a few failures in a row the worker ends, and its agent decides."""
        for attempt in range(1, MAX_ENGINE_STARTS + 1):
            if self._stopping.is_set() or self.unwanted.is_set():
                return
            try:
                self._start_again()
            except Exception as error:  # the edge of this thread: without it there would be no engine, and no end
                log.exception("engine start %d of %d failed", attempt, MAX_ENGINE_STARTS)
                self.heartbeat.update(message=str(error))
                time.sleep(min(2.0**attempt, 10) / 4)
            else:
                return
        self.heartbeat.update(status="failed")
        self.lost.set()
        self.over.set()

    def _start_again(self) -> None:
        started = time.monotonic()
        engine = EngineProcess.start(self.config, pace_of(self.settings))
        try:
            self._info = engine.wait_ready(self.settings.load_timeout_s, until=self._stopping.is_set)
        except BaseException:
            engine.close()
            raise
        log.info("engine %d ready after %.1f s", engine.pid, time.monotonic() - started)
        self._engine = engine
        self.activate()
        self.heartbeat.update(status="active")
