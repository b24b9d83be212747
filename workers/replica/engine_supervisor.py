"""Supervises one engine process: starts it, waits for it, watches it, and starts another when it has died.

Knows no job: `on_death` recovers the jobs of a dead engine.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from gateway.backoff import Backoff
from gateway.cluster.registry import ReplicaStatus
from gateway.jobs.record import Cause
from gateway.settings import Settings
from workers.engines.base import EngineConfig, EngineInfo, SequenceRequest
from workers.engines.steps import StepFrame
from workers.host.venvs import interpreter
from workers.host.vitals import with_children
from workers.journal.pace import flush_interval_of
from workers.replica.engine_client import EngineDied, EngineProcess
from workers.replica.heartbeat import ReplicaHeartbeat
from workers.replica.lifetime import Lifetime
from workers.replica.sequences import Sequences
from workers.replica.stall import stall_limit_s
from workers.stages.base import Startup

log = logging.getLogger(__name__)

#: An engine that has work but makes no step for this long counts as unhealthy.
STALLED_S = 5.0
#: An engine that was idle for this long is asked for one token.
PROBE_S = 30.0
#: Failed engine starts in a row before the worker gives up.
MAX_ENGINE_STARTS = 3
#: Before another of them.
BACKOFF = Backoff(first_s=0.5, last_s=2.5)


class StageReached(Exception):
    """The engine's loading has reached the awaited stage."""


class EngineSupervisor:
    """The emitter's thread reads and watches; startup and restart have threads of their own; any thread may submit.

    `probe` makes the smallest request; `on_death` is called with the cause before another engine is started.
    """

    def __init__(
        self,
        settings: Settings,
        config: EngineConfig,
        sequences: Sequences,
        heartbeat: ReplicaHeartbeat,
        life: Lifetime,
        *,
        probe: Callable[[], SequenceRequest],
        on_death: Callable[[Cause], None],
    ) -> None:
        self._settings = settings
        self._config = config
        self._sequences = sequences
        self._heartbeat = heartbeat
        self._life = life
        self._probe = probe
        self._on_death = on_death
        #: Set while the engine takes sequences.
        self.ready = threading.Event()
        #: The info of the last loaded engine.
        self.info: EngineInfo | None = None
        #: What a step takes, and how much more for each sequence, in seconds; 0 if that is not known.
        self.step_times = (0.0, 0.0)
        self._process: EngineProcess | None = None
        self._last_step = time.monotonic()
        self._probing = False
        #: Since when the engine reports fewer sequences than it was given; 0 = it does not.
        self._short_since = 0.0

    # -- its start and its end

    def start(self) -> None:
        """Spawn the process, which begins to load."""
        self._process = self._spawned()

    def wait(self, up: Startup, *, until_stage: str = "") -> None:
        """Follow the loading, up to a stage or to its end. Raises: EngineStartFailed."""
        assert self._process is not None

        def on_progress(stage: str, done: int, total: int) -> None:
            if stage == until_stage:
                raise StageReached
            up.report(done, total)

        try:
            self.info = self._process.wait_ready(self._settings.load_timeout_s, on_progress, until=up.cancelled.is_set)
        except StageReached:
            return

    def activate(self) -> None:
        """Let it take sequences from now on."""
        assert self._process is not None and self.info is not None
        self._last_step, self._probing, self._short_since = time.monotonic(), False, 0.0
        self._heartbeat.note_engine(self._process.pid, self.info)
        self.ready.set()

    def kill(self) -> None:
        """End the process, which frees its memory."""
        if self._process is not None:
            self._process.kill()

    def discard(self) -> None:
        """End the process, and have no engine."""
        self.kill()
        self._process = None

    # -- its work

    @property
    def weights(self) -> str:
        """The digest of the loaded weights; empty if there are none."""
        return self.info.weights_digest if self.info else ""

    @property
    def context_length(self) -> int:
        """Tokens of the longest sequence; 0: nothing is loaded."""
        return self.info.context_length if self.info else 0

    @property
    def kv_capacity_tokens(self) -> int:
        """Tokens in the KV cache; 0: the engine has none, or does not say."""
        return int(self.info.effective.get("kv_capacity_tokens") or 0) if self.info else 0

    @property
    def pids(self) -> list[int]:
        """The process ids of the engine: one for each rank of a shared model."""
        process = self._process
        if process is None:
            return []
        return [process.pid] if self._config.tensor_parallel_size == 1 else with_children(process.pid)

    def submit(self, requests: Sequence[SequenceRequest]) -> None:
        """Add sequences to the batch. Raises: EngineDied."""
        if self._process is None:
            raise EngineDied("the engine is not running")
        self._process.submit(requests)

    def cancel(self, sequence_ids: Sequence[int]) -> None:
        """Take sequences out of the batch."""
        if sequence_ids and self._process is not None:
            self._process.cancel(sequence_ids)

    def read(self, timeout_s: float, on_step: Callable[[StepFrame], None]) -> None:
        """Read all frames that have arrived, so that a late emitter catches up in one append; then watch the engine."""
        process = self._process
        if process is None or not self.ready.is_set():
            time.sleep(min(timeout_s, 0.05))
            return
        try:
            frame = process.read(timeout_s)
            while frame is not None:
                self.note_step()
                self.step_times = frame.base_s, frame.each_s
                on_step(frame)
                frame = process.read(0)
            self._watch(process)
        except EngineDied as error:
            self._mourn(process, str(error))

    # -- its health

    def note_step(self) -> None:
        """Note that the engine has made a step."""
        self._last_step, self._probing = time.monotonic(), False

    def excuse(self, now: float) -> None:
        """Ignore the silence until now: this process was suspended, and so may have been the engine."""
        self._last_step, self._short_since = now, 0.0

    def is_stalled(self, now: float) -> bool:
        """Whether it has work and makes no step."""
        return bool(self._sequences or self._probing) and now - self._last_step > STALLED_S

    def _watch(self, process: EngineProcess) -> None:
        """Kill an engine that has work but makes no step, or that has lost a sequence."""
        now, limit_s = time.monotonic(), self._stall_limit_s()
        if self._heartbeat.record.sequences >= len(self._sequences):
            self._short_since = 0.0
        self._short_since = self._short_since or now
        if not self._sequences and not self._probing:
            if now - self._last_step > PROBE_S:  # so that its health is known before a request comes
                self._probing, self._last_step = True, now
                process.submit([self._probe()])
        elif now - self._last_step > limit_s:
            log.error("engine %d made no step for %.0f s, killed", process.pid, limit_s)
            self._last_step = now
            process.kill()
        elif self._sequences and now - self._short_since > limit_s:
            log.error("engine %d has fewer sequences than it was given for %.0f s, killed", process.pid, limit_s)
            self._short_since = now
            process.kill()

    def _stall_limit_s(self) -> float:
        prefilling = any(run.new_tokens == 0 for run in self._sequences.runs())
        warm_up_step_s = self.info.warm_up_step_s if self.info else 0.0
        return stall_limit_s(self._settings.engine_stall_s, warm_up_step_s, prefilling=prefilling)

    # -- its death

    def _mourn(self, process: EngineProcess, why: str) -> None:
        """Report its death, and start another."""
        if self._life.stopping.is_set():
            return
        log.error("engine %d died: %s", process.pid, why)
        self.ready.clear()
        self._heartbeat.update(status=ReplicaStatus.LOADING, engine_pid=0, sequences=0, kv_used_tokens=0)
        try:
            self._on_death(Cause.LOST if process.was_killed else Cause.CRASHED)
        finally:
            threading.Thread(target=self._restart, name="restart-engine", daemon=True).start()

    def _restart(self) -> None:
        """Start another process. After some failures in a row the worker ends, and its agent decides."""
        for attempt in range(1, MAX_ENGINE_STARTS + 1):
            if attempt > 1:
                self._life.stopping.wait(BACKOFF.pause_s(attempt - 1))
            if self._life.stopping.is_set() or self._life.unwanted.is_set():
                return
            try:
                self._start_again()
            except Exception as error:  # the edge of this thread: else the worker would stay without an engine
                log.exception("engine start %d of %d failed", attempt, MAX_ENGINE_STARTS)
                self._heartbeat.update(message=str(error))
            else:
                return
        self._heartbeat.update(status=ReplicaStatus.FAILED)
        self._life.lost.set()
        self._life.over.set()

    def _spawned(self) -> EngineProcess:
        python = interpreter(self._config.engine, self._settings.data_dir)
        return EngineProcess.start(self._config, flush_interval_of(self._settings), python=python)

    def _start_again(self) -> None:
        started = time.monotonic()
        process = self._spawned()
        try:
            self.info = process.wait_ready(self._settings.load_timeout_s, until=self._life.stopping.is_set)
        except BaseException:
            process.close()
            raise
        log.info("engine %d ready after %.1f s", process.pid, time.monotonic() - started)
        self._process = process
        self.activate()
        self._heartbeat.update(status=ReplicaStatus.ACTIVE)
