"""One replica of an agent: started in a thread of its own, adopted, restarted with back-off, stopped."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import IO

import redis

from gateway.backoff import Backoff
from gateway.cluster.desired import Desired, ReplicaSpec, SpecState
from gateway.cluster.registry import Registry
from gateway.cluster.startup import AGENT, End, Entry, StartupLog
from gateway.deployments.reasons import DeploymentFailed, FailureReason, reason_of
from gateway.errors import HeadraceError
from gateway.jobs.record import Cause
from gateway.jobs.recovery import cause_of_death
from gateway.models.catalog import Catalog
from gateway.process.environment import with_settings
from gateway.process.locks import drop_lock, last_holder, lock_holder
from gateway.process.log_files import model_log
from gateway.process.start import how_ended, module_command
from gateway.settings import Settings
from gateway.store.codec import dumps
from gateway.store.connection import NOT_NOW
from workers.agent.turns import Turns
from workers.host.failures import failure_of
from workers.stages import run_stages
from workers.stages.base import Startup

log = logging.getLogger("headrace.agent")

#: Back-off after a failed start.
BACKOFF = Backoff(first_s=0.4, last_s=30.0)
#: The same after the death of a replica that has served: short, since its clients wait.
RECOVERY = Backoff(first_s=0.2, last_s=2.0)
#: A replica that has served for this long starts again with the shortest back-off.
HEALTHY_S = 60.0
#: A living replica without a heartbeat for this many leases, while Redis answers, is killed.
SILENT_LEASES = 4
#: Failed starts before the replica is given up.
MAX_STARTS = 3
#: Reasons for which another try may succeed.
TRANSIENT = {
    FailureReason.ENGINE_CRASHED,
    FailureReason.OUT_OF_MEMORY,
    FailureReason.SOURCE_UNREACHABLE,
    FailureReason.TIMED_OUT,
    FailureReason.INTERNAL,
}
#: A replica that should stop is killed this long after its requests should have ended.
KILL_AFTER_S = 15.0
_LOOK_S = 0.1


class Starter:
    """A replica as its agent sees it.

    `turns` lets one replica of a device load at a time; `on_death` is called for each incarnation known to be dead.
    """

    def __init__(
        self,
        settings: Settings,
        client: redis.Redis,
        catalog: Catalog,
        spec: ReplicaSpec,
        *,
        turns: Turns,
        on_death: Callable[[str, Cause], None],
    ) -> None:
        self.spec = spec
        self._on_death = on_death
        self._settings = settings
        self._catalog = catalog
        self._registry = Registry(client)
        self._desired = Desired(client)
        self._log = StartupLog(client, spec.replica_id)
        self._turns = turns
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None
        self._cancelled = threading.Event()
        self._incarnation = ""
        #: Failed starts in a row, which end in giving up, and deaths in a row.
        self._failures = self._deaths = 0
        self._next_start = self._started_at = self._unwanted_at = self._silent_since = 0.0

    def _is_alive(self) -> bool:
        """Note its process. Returns whether it lives, as a child of this agent or of an earlier one."""
        holder = lock_holder(self._settings.data_dir, self.spec.replica_id)
        if holder:
            self._incarnation = holder.incarnation
        if self._process is not None and self._process.poll() is not None:
            log.warning("replica %s: its worker %s", self.spec.replica_id, how_ended(self._process.returncode))
            self._process = None
        return holder is not None or self._process is not None

    def ensure_running(self, spec: ReplicaSpec) -> None:
        """Start it unless it lives. Called in each reconciliation."""
        self.spec, self._unwanted_at = spec, 0.0
        if self._thread is not None and self._thread.is_alive():
            return
        if self._is_alive():
            self._require_heartbeat()
            return
        if self._incarnation:
            log.warning("replica %s died; its jobs are recovered now", spec.replica_id)
            self._reclaim_jobs()
            soon = time.monotonic() - self._started_at < HEALTHY_S
            self._deaths = self._deaths + 1 if soon else 0
            self._put_off(RECOVERY.pause_s(self._deaths + 1))
        if time.monotonic() >= self._next_start:
            self._cancelled = threading.Event()
            self._thread = threading.Thread(target=self._start_up, name=f"start-{spec.replica_id}", daemon=True)
            self._thread.start()

    def ensure_stopped(self) -> bool:
        """Stop it. It ends by itself when its requests have. Returns whether it is gone."""
        now = time.monotonic()
        self._unwanted_at = self._unwanted_at or now
        self._cancelled.set()
        if self._thread is not None and self._thread.is_alive():
            return False
        if self._is_alive():
            if now > self._unwanted_at + self._settings.drain_s + KILL_AFTER_S:
                self._kill()
            return False
        self._reclaim_jobs()
        drop_lock(self._settings.data_dir, self.spec.replica_id)
        self._log.append(end="gone")
        log.info("replica %s is gone", self.spec.replica_id)
        return True

    def _require_heartbeat(self) -> None:
        """Kill a living worker without a heartbeat: it serves no request, but keeps its device's memory."""
        try:
            beats = bool(self._registry.alive([self._incarnation]))
        except NOT_NOW:
            self._silent_since = 0.0  # no worker can send a heartbeat now
            raise
        now = time.monotonic()
        self._silent_since = 0.0 if beats else self._silent_since or now
        if self._silent_since and now - self._silent_since > SILENT_LEASES * self._settings.lease_s:
            log.error("replica %s lives, but sends no heartbeat", self.spec.replica_id)
            self._silent_since = 0.0
            self._kill()

    # -- the thread that starts it

    def _start_up(self) -> None:
        name = self.spec.replica_id
        try:
            self._run()
        except NOT_NOW as error:
            log.warning("replica %s waits for Redis: %s", name, error)
        except Exception as error:  # the edge of this thread: the deployment must get to know
            reason, message = failure_of(error)
            if isinstance(error, HeadraceError):
                reason, message = FailureReason.INTERNAL, error.message
            if reason is FailureReason.INTERNAL:
                log.exception("replica %s did not come up", name)
            if not self._cancelled.is_set():
                self._count_failure(reason, message)

    def _run(self) -> None:
        self._catalog.refresh()
        model = self._catalog.get(self.spec.model)
        reclaimable = self._turns.reclaimable_bytes
        up = Startup(self._settings, self.spec, model, self._log, self._cancelled, reclaimable_bytes=reclaimable)
        run_stages(AGENT, up)
        with self._turns.taken(up):
            began = self._last_entry()
            self._started_at = time.monotonic()
            self._process = _spawn(up)
            self._follow(self._process, began)

    def _follow(self, process: subprocess.Popen[bytes], began: str) -> None:
        """Wait until it serves; `began` is the last entry in the log before this start.

        Raises: DeploymentFailed, with the reason that the worker has logged.
        """
        seen = began
        while process.poll() is None:
            self._is_alive()
            entries = self._log.read(seen)
            if any(entry.end == End.ACTIVE for entry in entries):
                self._failures = 0
                return
            seen = entries[-1].id if entries else seen
            if self._unwanted_at and time.monotonic() > self._unwanted_at + KILL_AFTER_S:
                process.kill()
            time.sleep(_LOOK_S)
        self._reclaim_jobs()
        raise _failure(self._log.read(began)) or DeploymentFailed(
            FailureReason.ENGINE_CRASHED, f"while it loaded, the model worker {how_ended(process.returncode)}"
        )

    def _count_failure(self, reason: FailureReason, message: str) -> None:
        """Try again later, or give up with that reason."""
        self._failures += 1
        pause_s = BACKOFF.pause_s(self._failures)
        self._put_off(pause_s)
        tried = f"{self._failures} of {MAX_STARTS}"
        log.warning("replica %s, try %s: %s: %s", self.spec.replica_id, tried, reason, message)
        if reason not in TRANSIENT or self._failures >= MAX_STARTS:
            failure = {"reason": reason.value, "message": message, "remedy": reason.remedy}
            if self._desired.change(self.spec, state=SpecState.FAILED, failure=failure):
                self._log.append(level="error", message=message, end=End.FAILED, failure=failure)
            self._failures = 0
        else:
            self._log.append(level="warning", message=f"try {tried} failed, again in {pause_s:.1f} s: {message}")

    def _put_off(self, pause_s: float) -> None:
        """Delay the next start by `pause_s`."""
        self._next_start = time.monotonic() + pause_s

    def _reclaim_jobs(self) -> None:
        if self._incarnation:
            last = last_holder(self._settings.data_dir, self.spec.replica_id)
            cause = Cause.LOST
            if last and last.incarnation == self._incarnation:
                cause = cause_of_death(self._settings.data_dir, self.spec.replica_id, last)
            self._on_death(self._incarnation, cause)
            self._incarnation = ""

    def _kill(self) -> None:
        holder = lock_holder(self._settings.data_dir, self.spec.replica_id)
        if holder:
            log.warning("replica %s is killed", self.spec.replica_id)
            os.kill(holder.pid, signal.SIGKILL)

    def _last_entry(self) -> str:
        entries = self._log.read()
        return entries[-1].id if entries else ""


def _failure(entries: list[Entry]) -> DeploymentFailed | None:
    """The last failure that the worker has logged."""
    found: Mapping[str, str] = next((entry.failure for entry in reversed(entries) if entry.failure), {})
    return DeploymentFailed(reason_of(found), found.get("message", "")) if found else None


def _spawn(up: Startup) -> subprocess.Popen[bytes]:
    """Start a model worker, which outlives its agent."""
    spec = up.spec
    command = module_command("workers.replica", spec.model, "--spec", dumps(asdict(spec)))
    command += ["--path", str(up.path) if up.path != Path() else "", "--planned-bytes", str(up.planned_bytes)]
    command += ["--kv-capacity-tokens", str(up.kv_capacity_tokens), "--agent", str(os.getpid())]
    with _log_of(spec, up.settings) as output:
        process = subprocess.Popen(
            command,
            env=with_settings({**os.environ, **up.settings.environ()}),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    log.info("replica %s started as %d", spec.replica_id, process.pid)
    return process


def _log_of(spec: ReplicaSpec, settings: Settings) -> AbstractContextManager[IO[bytes] | None]:
    """What its worker writes to; None: where this process does."""
    if not settings.log_files:
        return nullcontext()
    path = model_log(settings, spec.replica_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("ab")
