"""What the keeper does for each running and each queued job: finds those that lost their worker, hint or client.

Each job is looked at behind a guard, and a long index in slices, so that neither an odd job nor a backlog keeps the
keeper from the others.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from celery import Celery

from gateway.cluster.registry import Registry
from gateway.cluster.trust import Trust
from gateway.errors import Unreadable
from gateway.jobs.control import cancel, fail
from gateway.jobs.damaged import quarantine, sift
from gateway.jobs.record import Cause, Job, JobHead, JobState
from gateway.jobs.recovery import cause_of_death, give_back
from gateway.jobs.store import JobStore
from gateway.process.locks import Holder, dead_holders
from gateway.queue.queues import Priority, enqueue_or_leave_to_keeper, lists, queue_of
from gateway.settings import Settings
from gateway.store import keys
from gateway.store.connection import pipeline
from gateway.store.loop import guarded
from gateway.watching.hub import ATTENDED_S

log = logging.getLogger("headrace.keeper")

#: Records that are read in one round trip.
BATCH = 500
#: Jobs of one queue that every round looks at: the first in line. The others have their turn in slices.
HEAD, SLICE = 100, 1_000
#: A cancelled job whose worker is silent for so long is ended by the keeper.
CANCEL_S = 5.0
#: A job that is first in line for so long, and was not taken, is hinted again; the n-th for n times as long.
HINT_S = 2.0
#: Another hint for the same job takes twice as long each time, up to so many doublings.
MAX_DOUBLINGS = 5
#: Nobody says so long in advance that a client will be there.
FUTURE_S = 600.0
#: What is remembered of a hinted job is forgotten after so long.
FORGET_S = 600.0


class Sweep:
    """What both have in common."""

    def __init__(self, *, settings: Settings, store: JobStore, celery: Celery, trust: Trust) -> None:
        self.settings = settings
        self.store = store
        self.celery = celery
        self.trust = trust

    def heads(self, job_ids: Iterable[str]) -> Iterator[tuple[str, JobHead | None]]:
        """Records in their order, a batch at a time. One that can't be read goes into quarantine."""
        ids = iter(job_ids)
        while batch := list(itertools.islice(ids, BATCH)):
            self.trust.tick()
            yield from sift(self.store, batch).items()

    def hint(self, job: JobHead, priority: Priority) -> None:
        """Tell its queue of a job."""
        enqueue_or_leave_to_keeper(self.celery, job.id, place=job.runs_on, priority=priority)

    def cancel(self, head: JobHead, *, reason: str, take_claim: str = "") -> None:
        """End a job as cancelled, or mark it."""
        if job := self._whole(head):
            cancel(self.store, job, reason=reason, take_claim=take_claim)

    def fail(self, head: JobHead, *, reason: str, message: str, **details: str) -> None:
        """End a queued job as failed."""
        if job := self._whole(head):
            fail(self.store, job, reason=reason, message=message, **details)

    def _whole(self, head: JobHead) -> Job | None:
        """The record with its request, unless that can't be read: then the job is in quarantine."""
        try:
            return self.store.read(head.id)
        except Unreadable as error:
            log.error("%s", error.message)
            quarantine(self.store, head.id)
            return None

    def client_is_gone(self, job: JobHead, now_ms: int) -> bool:
        """Whether its client is gone: nobody has said for too long that it is there, and somebody could have."""
        if job.attended_until < 0:
            return False
        attended_s = self.settings.grace_s + ATTENDED_S
        if job.attended_until > now_ms + 1000 * (attended_s + FUTURE_S):  # Redis' clock was put back
            self.store.renew_leases([job.id], hub_id="", attended_ms=int(1000 * attended_s))
        return job.attended_until < now_ms and self.trust.held_for(attended_s)


class RunningSweep(Sweep):
    """All running jobs, each time."""

    def __init__(
        self, *, settings: Settings, store: JobStore, celery: Celery, trust: Trust, registry: Registry
    ) -> None:
        super().__init__(settings=settings, store=store, celery=celery, trust=trust)
        self._registry = registry
        #: Claims whose owner had no heartbeat the last time.
        self._missing: set[str] = set()

    def run(self, now_ms: int) -> None:
        """Look at all of them. Raises: NOT_NOW."""
        missing: set[str] = set()
        found = list(self.heads(cast("list[str]", self.store.redis.zrange(keys.RUNNING, 0, -1))))
        dead = {last.incarnation: (name, last) for name, last in dead_holders(self.settings.data_dir).items()}
        alive = self._registry.alive(job.owner for _, job in found if job and job.owner) - dead.keys()
        for job_id, job in found:
            with guarded(f"job {job_id}"):
                if job is None:
                    self.store.indexes.track(job_id, "")
                elif job.state.ended:
                    self.store.indexes.settle(job)
                elif job.state is JobState.QUEUED:
                    self.store.indexes.track(job_id, job.runs_on)
                else:
                    self._look_at(job, now_ms, alive, dead, missing)
        self._missing = missing

    def distrust(self) -> None:
        """What was seen last time means nothing."""
        self._missing = set()

    def _look_at(
        self, job: JobHead, now_ms: int, alive: set[str], dead: Mapping[str, tuple[str, Holder]], missing: set[str]
    ) -> None:
        owner_alive = job.owner in alive
        silent_s = self.trust.age_s(now_ms, job.progress_at)
        if not job.cancel and self.client_is_gone(job, now_ms):
            log.info("job %s: its client is gone, cancelling", job.id)
            self.cancel(job, reason="client_gone")
        elif job.cancel and not owner_alive and silent_s > CANCEL_S:
            self.cancel(job, reason=job.cancel_reason or "client_request", take_claim=job.claim)
        elif not owner_alive:
            missing.add(job.claim)
            silent = job.claim in self._missing and self.trust.held_for(self.settings.lease_s)
            if job.owner in dead:
                cause = cause_of_death(self.settings.data_dir, *dead[job.owner])
                self._recover(job, cause, f"worker {job.owner} is dead")
            elif silent:
                self._recover(job, Cause.LOST, f"worker {job.owner} is dead")
        elif silent_s > self.settings.stall_s and self.trust.held_for(2 * self.settings.lease_s):
            self._recover(job, Cause.GIVEN_BACK, f"no progress for {silent_s:.0f} s")

    def _recover(self, job: JobHead, cause: Cause, why: str) -> None:
        if give_back(self.store, self.celery, job, cause):
            log.warning("job %s: %s, back to the queue", job.id, why)


@dataclass
class Hinted:
    """What the keeper has done for a waiting job."""

    #: By the steady clock.
    at: float
    times: int = 0
    #: How far a background job has aged.
    step: int = 0


class QueueSweep(Sweep):
    """The jobs that wait for one model: the first in line each time, the others in slices."""

    def __init__(self, *, settings: Settings, store: JobStore, celery: Celery, trust: Trust) -> None:
        super().__init__(settings=settings, store=store, celery=celery, trust=trust)
        self._cursors: dict[str, int] = {}
        self._hinted: dict[str, Hinted] = {}

    def run(self, model: str, now_ms: int) -> list[JobHead]:
        """Look at those whose turn it is. Returns those that wait. Raises: NOT_NOW."""
        ids, size = self._turn(model)
        waiting: list[JobHead] = []
        for job_id, job in self.heads(ids):
            with guarded(f"job {job_id}"):
                if self._belongs(job_id, job, model):
                    waiting.append(cast(JobHead, job))
        return self._look_at(waiting, model, size, now_ms) if waiting else []

    def forget(self) -> None:
        """Drop what is remembered of jobs of long ago."""
        before = time.monotonic() - FORGET_S
        self._hinted = {job_id: hinted for job_id, hinted in self._hinted.items() if hinted.at > before}

    def _turn(self, model: str) -> tuple[list[str], int]:
        """Whose turn it is in a queue, and how many wait there."""
        index, cursor = keys.queued(model), self._cursors.get(model, HEAD)
        head, slice_, size = pipeline(
            self.store.redis,
            [
                ("ZRANGE", index, 0, HEAD - 1),
                ("ZRANGE", index, cursor, cursor + SLICE - 1),
                ("ZCARD", index),
            ],
        )
        self._cursors[model] = cursor + SLICE if cursor + SLICE < size else HEAD
        return list(dict.fromkeys([*head, *slice_])), size

    def _belongs(self, job_id: str, job: JobHead | None, model: str) -> bool:
        """Whether a job waits for this model. If not, it goes to where it belongs."""
        if job is None:
            self.store.indexes.track(job_id, model)
        elif job.state.ended:
            self.store.indexes.settle(job)
        elif job.state is not JobState.QUEUED or job.runs_on != model:
            self.store.indexes.track(job_id, job.runs_on, model)
        else:
            return True
        return False

    def _look_at(self, waiting: Sequence[JobHead], model: str, size: int, now_ms: int) -> list[JobHead]:
        hints = sum(pipeline(self.store.redis, [("LLEN", name) for name in lists(queue_of(model))]))
        lost = size - hints
        left: list[JobHead] = []
        for rank, job in enumerate(waiting):
            with guarded(f"job {job.id}"):
                self.trust.tick()
                if self._ends(job, now_ms):
                    continue
                left.append(job)
                waited_s = self.trust.age_s(now_ms, job.queued_at)
                if waited_s > HINT_S and self._hint_due(job, rank, waited_s, some_lost=lost > 0):
                    lost -= 1
                    log.warning("job %s: was not taken, its hint is sent again", job.id)
                    self.hint(job, Priority.RECOVERED)
                elif job.background:
                    self._age(job, waited_s)
        return left

    def _ends(self, job: JobHead, now_ms: int) -> bool:
        """Whether a job waits no longer: nobody wants it, or nobody has taken it for too long."""
        waited_s = self.trust.age_s(now_ms, job.queued_at if job.attempts else job.created_at)
        if job.cancel:
            self.cancel(job, reason=job.cancel_reason or "client_request")
        elif self.client_is_gone(job, now_ms):
            log.info("job %s: its client is gone, cancelled before it began", job.id)
            self.cancel(job, reason="client_gone")
        elif waited_s > self.settings.queue_timeout_s and self.trust.held_for(2 * self.settings.lease_s):
            self._give_up(job)
        else:
            return False
        return True

    def _give_up(self, job: JobHead) -> None:
        """Nobody has taken a job for too long. One that was taken before has had other troubles than the queue."""
        within = f"within {self.settings.queue_timeout_s:.0f} s"
        if job.attempts:
            message = f"The job was begun {job.attempts} times, and lost its worker. No other took it again {within}."
            self.fail(job, reason="model_not_ready", message=message)
        else:
            self.fail(job, reason="queue_timeout", message=f"No worker took the job {within}.")

    def _hint_due(self, job: JobHead, rank: int, waited_s: float, *, some_lost: bool) -> bool:
        """Whether its hint may be lost: there are fewer than jobs, or it is not taken though it is first in line."""
        hinted = self._hinted.get(job.id)
        since_s = waited_s if hinted is None or not hinted.times else time.monotonic() - hinted.at
        times = hinted.times if hinted else 0
        first_in_line = rank < HEAD and since_s > HINT_S * (rank + 1) * 2 ** min(times, MAX_DOUBLINGS)
        if not first_in_line and not (some_lost and (not times or since_s > 2 * HINT_S)):
            return False
        step = hinted.step if hinted else 0
        self._hinted[job.id] = Hinted(time.monotonic(), times + 1, step)
        return True

    def _age(self, job: JobHead, waited_s: float) -> None:
        """A background job gets a second hint at a higher step, then one among the interactive ones."""
        step = min(2, int(waited_s / self.settings.ageing_s)) if self.settings.ageing_s else 2
        hinted = self._hinted.setdefault(job.id, Hinted(time.monotonic()))
        if step > hinted.step:
            hinted.step = step
            self.hint(job, (Priority.AGED, Priority.INTERACTIVE)[step - 1])
