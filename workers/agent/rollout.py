"""Carries out deployments on an agent: each is a claimed job whose journal tells how its replicas come up.

The desired state does the work, on whatever devices; what is here wants it, follows it, and takes it back.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from celery import Celery

from gateway.cluster.bringup import BringUpLog, Entry
from gateway.cluster.desired import Desired, Wanted
from gateway.cluster.durations import Durations
from gateway.cluster.registry import Registry
from gateway.deployments import views as deployment_views
from gateway.deployments.reasons import DeploymentFailed, FailureReason, reason_of
from gateway.jobs.record import Append, Cause, Event, EventType, Job
from gateway.jobs.store import JobStore
from gateway.settings import Settings
from gateway.store.codec import build
from gateway.store.connection import NOT_NOW, is_lasting
from gateway.store.loop import Loop
from workers.journal.claim_loop import ClaimLoop
from workers.journal.claimed_job import ClaimedJob
from workers.journal.quarantine import PoisonRule
from workers.journal.writer import Journaler, break_off

log = logging.getLogger("headrace.agent")

#: Pause between two looks at the replicas of a deployment.
LOOK_S = 0.15
#: How often it is said that a deployment goes on, though nothing is new.
PROGRESS_S = 5.0
#: Log lines in the error of a deployment that has failed.
LAST_LINES = 8
#: What is undone is waited for so long, beyond the time that requests may take to end.
UNDO_S = 30.0


class Stopped(Exception):
    """This agent ends, or somebody else has the deployment."""


class Cancelled(Exception):
    """The deployment is to be undone."""


class DeploymentJob(ClaimedJob):
    """A deployment in this agent's hands. Its thread and the emitter's write it, so it has a lock."""

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self.to_cancel = threading.Event()
        if job.cancel:
            self.to_cancel.set()
        self._lock = threading.RLock()

    def usage(self) -> Mapping[str, int]:
        """Nothing."""
        return {}

    def cancel(self) -> None:
        """It ends as cancelled when everything is undone, not before."""
        self.to_cancel.set()

    def cancelled(self) -> None:
        """Everything is undone."""
        super().cancel()

    def event(self, kind: EventType, body: Mapping[str, Any]) -> None:
        """As the base, but never while the events are sent."""
        with self._lock:
            super().event(kind, body)

    def unconfirmed(self) -> Append | None:
        """As the base, but never while an event is written."""
        with self._lock:
            return super().unconfirmed()

    def _end(self, *args: Any) -> None:
        with self._lock:
            super()._end(*args)


class DeploymentRuns:
    """The deployments that this agent carries out."""

    def __init__(self, settings: Settings, store: JobStore, celery: Celery, *, owner: str) -> None:
        self.settings = settings
        self.store = store
        self.celery = celery
        self.owner = owner
        self._stopping = threading.Event()
        self._journaler = Journaler(settings=settings, store=store, celery=celery, owner=owner, on_drop=lambda _: None)
        # Several deployments share an agent, and none can run apart: that it died is blamed on none of them.
        internal = FailureReason.INTERNAL
        rule = PoisonRule("The agent", lost=internal.value, more={"remedy": internal.remedy})
        self._claims = ClaimLoop(self._journaler, rule, keeps_cancelled=True)

    def start(self, beat: Callable[[], None]) -> None:
        """Begin to beat, and to write journals."""
        Loop(lambda: self._emit(beat), name="emitter", over=self._stopping.is_set).start()

    def stop(self) -> None:
        """Give the deployments back to the queue, for the next agent of this device."""
        self._stopping.set()
        self._journaler.flush(everything=True)
        self._journaler.release(self._journaler.held, Cause.GIVEN_BACK)

    def run(self, job_id: str) -> None:
        """Claim a deployment and carry it out to its end. Does nothing if it is taken, ended or gone."""
        claimed = self._claims.take(job_id, self._admit)
        if claimed is None:
            return
        try:
            run = DeploymentRun(self, claimed)
        except NOT_NOW as error:
            log.warning("deployment %s waits for Redis: %s", job_id, error)
            self._journaler.release([claimed], Cause.GIVEN_BACK)
            return
        except Exception as error:  # the task's edge: its record or journal can't be used
            log.exception("deployment %s: not prepared", job_id)
            self._journaler.drop(claimed)
            break_off(self.store, claimed.job, error)
            return
        try:
            run.carry_out()
        except Stopped:
            log.info("deployment %s goes on elsewhere", job_id)
        except Exception as error:  # the task's edge: a deployment must never be in progress for ever
            log.exception("deployment %s", job_id)
            run.take_back()
            claimed.fail(FailureReason.INTERNAL.value, f"{type(error).__name__}: {error}")
        self._journaler.touch(claimed)
        claimed.finished.wait()

    def _admit(self, waiting: Job) -> DeploymentJob | None:
        if self.stopping:
            return None
        return self._claims.claim(waiting.id, DeploymentJob, model=waiting.runs_on)

    def _emit(self, beat: Callable[[], None]) -> None:
        self._journaler.tend(beat)
        time.sleep(0.05 if self._journaler.held else 0.25)

    # -- for the runs

    @property
    def stopping(self) -> bool:
        """Whether this agent ends."""
        return self._stopping.is_set()

    def touch(self, job: DeploymentJob) -> None:
        """There is something new for its journal."""
        self._journaler.touch(job)


class DeploymentRun:
    """One deployment."""

    def __init__(self, runs: DeploymentRuns, job: DeploymentJob) -> None:
        self._runs = runs
        self._job = job
        self._settings = runs.settings
        self._store = runs.store
        client = runs.store.redis
        self._desired = Desired(client)
        self._registry = Registry(client)
        self._durations = Durations(client)
        request = job.job.request
        self._wanted = [build(Wanted, one) for one in request["wanted"]]
        self._replaced = [build(Wanted, one) for one in request["replaced"]]
        self._logs = {one.replica_id: BringUpLog(client, one.replica_id) for one in (*self._wanted, *self._replaced)}
        events = runs.store.journal(job.id) if job.job.seq else []
        self._progress = deployment_views.Progress.of(job.job, events)
        self._copied = _copied(events)
        self._ends = {
            event.body["replica"]: Entry(event.body["at"], end=event.body["end"], failure=event.body["failure"])
            for event in events
            if event.body.get("end", "gone") != "gone"
        }
        self._said_at = 0.0
        self._gone_since: dict[str, float] = {}

    def carry_out(self) -> None:
        """To its end, whatever it is. Raises: Stopped."""
        self._job.begin({"at": _now()})
        try:
            self._bring_up()
            self._put_in_force()
        except DeploymentFailed as error:
            self._say(error.message, "error")
            self._undo()
            self._fail(error)
        except Cancelled:
            self._say("cancelled; everything is undone", "warning")
            self._undo()
            self._patiently(lambda: self._meta("REVOKED"))
            self._job.cancelled()
        else:
            self._patiently(lambda: self._durations.add(self._job.job.model, self._progress.seconds()))
            self._patiently(lambda: self._meta("SUCCESS"))
            self._job.done()

    def _bring_up(self) -> None:
        """Want the replicas, and wait until they all serve."""
        if not self._job.job.seq:
            self._say(f"deploying {self._job.job.model}" if self._wanted else f"scaling {self._job.job.model}")
        self._check(may_cancel=True)
        while not self._patiently(self._look):
            self._pause(may_cancel=True)

    def _look(self) -> bool:
        """Copy what is new. True when all replicas serve."""
        there = self._desired.of_deployment(self._job.id)
        missing = {one.replica_id for one in self._wanted} - {one.replica_id for one in there}
        # They are missing at the beginning, or when Redis has lost its last moments.
        self._desired.want(*(one for one in self._wanted if one.replica_id in missing))
        for one in self._wanted:
            self._copy(one)
        for one in self._wanted:
            end = self._ends.get(one.replica_id)
            if end is not None and end.end == "failed":
                raise DeploymentFailed(reason_of(end.failure), end.failure.get("message", ""))
        self._require_nodes()
        return all(one.replica_id in self._ends and self._ends[one.replica_id].end == "active" for one in self._wanted)

    def _put_in_force(self) -> None:
        """Let go of those that are replaced, now that the new ones serve."""
        if not self._replaced:
            return
        self._say(f"{len(self._replaced)} earlier replicas end when their requests have ended")
        self._patiently(lambda: self._desired.drop(self._replaced))
        self._await_gone(self._replaced)

    def take_back(self) -> None:
        """Want the replicas no more."""
        self._patiently(lambda: self._desired.drop(self._wanted))

    def _undo(self) -> None:
        self.take_back()
        self._await_gone(self._wanted)

    def _await_gone(self, replicas: Sequence[Wanted]) -> None:
        deadline = time.monotonic() + self._settings.drain_s + UNDO_S
        while time.monotonic() < deadline:
            if self._patiently(lambda: not self._living(replicas)):
                return
            self._pause(may_cancel=False)
        self._say("some replicas have not ended yet; their agents see to it", "warning")

    def _living(self, replicas: Sequence[Wanted]) -> bool:
        """Whether an agent has still something to do for one of them."""
        alive = {one.replica_id for one in self._registry.replicas()}
        agents = {device.place for device in self._registry.devices()}
        for one in replicas:
            entries = self._logs[one.replica_id].read()
            ended = not entries or entries[-1].end == "gone"
            if one.replica_id in alive or (not ended and one.place in agents):
                return True
        return False

    def _require_nodes(self) -> None:
        """Raises: DeploymentFailed if an agent is gone for too long."""
        agents = {device.place for device in self._registry.devices()}
        now = time.monotonic()
        for one in self._wanted:
            if one.place in agents:
                self._gone_since.pop(one.replica_id, None)
            elif now - self._gone_since.setdefault(one.replica_id, now) > self._settings.node_gone_s:
                raise DeploymentFailed(
                    FailureReason.NODE_GONE,
                    f"The agent of {one.node}.{one.device} is gone for {self._settings.node_gone_s:.0f} s.",
                )

    # -- the journal

    def _copy(self, one: Wanted) -> None:
        """Take over what a replica's log has that the journal has not."""
        for entry in self._logs[one.replica_id].read(self._copied.get(one.replica_id, "")):
            self._copied[one.replica_id] = entry.id
            at = {"at": entry.at_ms, "replica": one.replica_id, "entry": entry.id}
            if entry.stage:
                self._event(
                    EventType.STAGE, {**at, "stage": entry.stage, "status": entry.status, "progress": entry.progress}
                )
            if entry.message:
                self._event(EventType.LOG, {**at, "level": entry.level, "message": entry.message})
            if entry.facts:
                self._event(EventType.FACTS, {**at, "facts": dict(entry.facts)})
            if entry.end:
                self._event(
                    EventType.FACTS,
                    {**at, "end": entry.end, "failure": dict(entry.failure), "facts": {"status": entry.end}},
                )
                if entry.end != "gone":  # what has failed is gone a moment later
                    self._ends[one.replica_id] = entry

    def _say(self, message: str, level: str = "info") -> None:
        self._event(EventType.LOG, {"at": _now(), "level": level, "message": message})

    def _event(self, kind: EventType, body: Mapping[str, Any]) -> None:
        self._progress.take(kind, body)
        self._job.event(kind, body)
        self._runs.touch(self._job)

    def _fail(self, error: DeploymentFailed) -> None:
        lines = [line["message"] for line in self._progress.logs][-LAST_LINES:]
        self._patiently(lambda: self._meta("FAILURE", reason=error.reason.value, message=error.message))
        self._job.fail(error.reason.value, error.message, remedy=error.reason.remedy, log=lines)

    # -- waiting

    def _check(self, *, may_cancel: bool) -> None:
        """Raises: Stopped, Cancelled."""
        if self._runs.stopping or self._job.finished.is_set():
            raise Stopped
        if may_cancel and self._job.to_cancel.is_set():
            raise Cancelled

    def _pause(self, *, may_cancel: bool) -> None:
        """Between two looks. Raises: Stopped, Cancelled."""
        self._check(may_cancel=may_cancel)
        if time.monotonic() > self._said_at + PROGRESS_S:
            self._patiently(lambda: self._store.progress([self._job.job]))
            self._patiently(lambda: self._meta("PROGRESS"))
            self._said_at = time.monotonic()
        self._job.to_cancel.wait(LOOK_S) if may_cancel else time.sleep(LOOK_S)

    def _patiently(self, call: Callable[[], Any]) -> Any:
        """Do it when Redis answers. Raises: Stopped."""
        while True:
            try:
                return call()
            except NOT_NOW as error:
                if is_lasting(error):
                    raise
                log.warning("deployment %s waits for Redis: %s", self._job.id, error)
                if self._runs.stopping:
                    raise Stopped from error
                time.sleep(0.5)

    def _meta(self, state: str, **more: str) -> None:
        """The progress as metadata of the Celery task, for Flower and AsyncResult."""
        view = deployment_views.stages(self._job.job, self._progress, now_ms=_now())
        meta: dict[str, Any] = {"model_id": self._job.job.model, **view, **more}
        if state == "FAILURE":
            reason = {"exc_module": "gateway.deployments.reasons", "exc_type": "DeploymentFailed"}
            meta |= {**reason, "exc_message": [more["message"]]}
        self._runs.celery.backend.store_result(self._job.id, meta, state)


def _copied(events: Sequence[Event]) -> dict[str, str]:
    """The last entry of each replica's log that an earlier claim has copied."""
    return {event.body["replica"]: event.body["entry"] for event in events if "entry" in event.body}


def _now() -> int:
    return int(time.time() * 1000)
