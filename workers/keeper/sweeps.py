"""What the keeper does for running and queued jobs: finds those that lost their worker, wake-up message or client.

Each job is handled behind a guard, and a long index in slices, so that neither a broken job nor a backlog delays the
others.
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
from gateway.jobs.control import TOO_LATE, TOO_LATE_TEXT, cancel, fail
from gateway.jobs.damaged import quarantine, sift
from gateway.jobs.indexes import BACKGROUND_SCORE
from gateway.jobs.record import Cause, Job, JobHead, JobState
from gateway.jobs.recovery import cause_of_death, give_back
from gateway.jobs.store import JobStore
from gateway.process.locks import Holder, dead_holders
from gateway.queue.enqueue import enqueue_or_leave_to_keeper, wake
from gateway.queue.names import Priority, lists, queue_of
from gateway.settings import Settings
from gateway.store import keys
from gateway.store.connection import pipeline
from gateway.store.loop import guarded
from gateway.watching.hub import CLIENT_LEASE_S

log = logging.getLogger("headrace.keeper")

#: Records read in one round trip.
BATCH = 500
#: Every round checks the first `HEAD` jobs of a queue (of the interactive ones, where workers ask for their jobs), and
#: `SLICE` of all in turn.
HEAD, SLICE = 100, 100
#: The keeper ends a cancelled job whose worker has been silent for this long.
CANCEL_S = 5.0
#: The wake-up message of a job that is first in line and was not taken for this long is sent again; that of the n-th
#: job after n times as long.
RESEND_S = 2.0
#: The wait before the next message for the same job doubles each time, at most this often.
MAX_DOUBLINGS = 5
#: A client lease that ends later than this was written before Redis' clock was put back.
FUTURE_S = 600.0
#: How long the messages sent for a job are remembered.
FORGET_S = 600.0


class Sweep:
    """What both sweeps share."""

    def __init__(self, *, settings: Settings, store: JobStore, celery: Celery, trust: Trust) -> None:
        self.settings = settings
        self.store = store
        self.celery = celery
        self.trust = trust

    def heads(self, job_ids: Iterable[str]) -> Iterator[tuple[str, JobHead | None]]:
        """Records in order, read in batches. One that can't be read goes into quarantine."""
        ids = iter(job_ids)
        while batch := list(itertools.islice(ids, BATCH)):
            self.trust.tick()
            yield from sift(self.store, batch).items()

    def enqueue(self, job: JobHead, priority: Priority) -> None:
        """Send a wake-up message for a job."""
        enqueue_or_leave_to_keeper(self.celery, job.id, queue_key=job.runs_on, priority=priority)

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
        """Whether its client lease has expired, though Redis could be reached to renew it."""
        if job.attended_until < 0:
            return False
        attended_s = self.settings.grace_s + CLIENT_LEASE_S
        if job.attended_until > now_ms + 1000 * (attended_s + FUTURE_S):  # Redis' clock was put back
            self.store.renew_leases([job.id], hub_id="", attended_ms=int(1000 * attended_s))
        return job.attended_until < now_ms and self.trust.held_for(attended_s)


class RunningSweep(Sweep):
    """All running jobs, in each round."""

    def __init__(
        self, *, settings: Settings, store: JobStore, celery: Celery, trust: Trust, registry: Registry
    ) -> None:
        super().__init__(settings=settings, store=store, celery=celery, trust=trust)
        self._registry = registry
        #: Claims whose owner had no heartbeat in the last round.
        self._missing: set[str] = set()

    def run(self, now_ms: int) -> None:
        """Check all of them. Raises: NOT_NOW."""
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
        """Forget what the last round saw: Redis was away since."""
        self._missing = set()

    def _look_at(
        self, job: JobHead, now_ms: int, alive: set[str], dead: Mapping[str, tuple[str, Holder]], missing: set[str]
    ) -> None:
        owner_alive = job.owner in alive
        silent_s = self.trust.age_s(now_ms, job.progress_at)
        if not job.cancel and self.client_is_gone(job, now_ms):
            log.info("job %s: its client is gone, cancelling", job.id, extra=job.log_ids)
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
            log.warning("job %s: %s, back to the queue", job.id, why, extra=job.log_ids)


@dataclass
class Sent:
    """The wake-up messages that the keeper has sent for a waiting job."""

    #: By the steady clock.
    at: float
    times: int


class QueueSweep(Sweep):
    """The jobs that wait in one queue: the first in line in each round, the others in slices."""

    def __init__(self, *, settings: Settings, store: JobStore, celery: Celery, trust: Trust) -> None:
        super().__init__(settings=settings, store=store, celery=celery, trust=trust)
        self._cursors: dict[str, int] = {}
        #: Whether workers ask for the jobs of the model that is looked at.
        self._is_served = False
        self._sent: dict[str, Sent] = {}

    def run(self, model: str, now_ms: int, *, pulled: bool, served: bool) -> list[JobHead]:
        """Check the jobs of this round; `pulled`: workers ask for them; `served`: there are such, or were lately.

        Returns those that wait. Raises: NOT_NOW.
        """
        self._is_served = served
        ids, size = self._turn(model)
        waiting: list[JobHead] = []
        for job_id, job in self.heads(ids):
            with guarded(f"job {job_id}"):
                self.trust.tick()
                if self._belongs(job_id, job, model) and job and not self._ends(job, now_ms):
                    waiting.append(job)
        if pulled:
            self._put_in_line([job for job in waiting if self.trust.age_s(now_ms, job.queued_at) > RESEND_S], model)
        elif waiting:
            self._look_at(waiting, model, size, now_ms)
        return waiting

    def forget(self) -> None:
        """Forget the messages of `FORGET_S` ago and before."""
        before = time.monotonic() - FORGET_S
        self._sent = {job_id: sent for job_id, sent in self._sent.items() if sent.at > before}

    def _turn(self, model: str) -> tuple[list[str], int]:
        """The jobs of a queue to check in this round, and how many wait there."""
        index, cursor = keys.queued(model), self._cursors.get(model, 0)
        # What may be due at any time are the leases of clients. Background jobs have none, or few.
        last = f"({BACKGROUND_SCORE}" if self._is_served else "+inf"
        head, slice_, size = pipeline(
            self.store.redis,
            [
                ("ZRANGE", index, "-inf", last, "BYSCORE", "LIMIT", 0, HEAD),
                ("ZRANGE", index, cursor, cursor + SLICE - 1),
                ("ZCARD", index),
            ],
        )
        self._cursors[model] = cursor + SLICE if cursor + SLICE < size else 0
        return list(dict.fromkeys([*head, *slice_])), size

    def _belongs(self, job_id: str, job: JobHead | None, model: str) -> bool:
        """Whether a job waits for this model. If not, it is moved to the index where it belongs."""
        if job is None:
            self.store.indexes.track(job_id, model)
        elif job.state.ended:
            self.store.indexes.settle(job)
        elif job.state is not JobState.QUEUED or job.runs_on != model:
            self.store.indexes.track(job_id, job.runs_on, model)
        else:
            return True
        return False

    def _put_in_line(self, waiting: Sequence[JobHead], model: str) -> None:
        """See to it that workers are offered these. They are, but for one that an older version has made."""
        for queue in self.store.indexes.track_waiting([job.id for job in waiting], model) if waiting else ():
            wake(self.celery, queue)

    def _look_at(self, waiting: Sequence[JobHead], model: str, size: int, now_ms: int) -> None:
        messages = sum(pipeline(self.store.redis, [("LLEN", name) for name in lists(queue_of(model))]))
        lost = size - messages
        for rank, job in enumerate(waiting):
            with guarded(f"job {job.id}"):
                waited_s = self.trust.age_s(now_ms, job.queued_at)
                if waited_s > RESEND_S and self._must_resend(job, rank, waited_s, some_lost=lost > 0):
                    lost -= 1
                    log.warning("job %s: was not taken, its wake-up message is sent again", job.id, extra=job.log_ids)
                    self.enqueue(job, Priority.RECOVERED)

    def _ends(self, job: JobHead, now_ms: int) -> bool:
        """End a job that was cancelled, lost its client, or waited too long. Returns whether it was ended."""
        waited_s = self.trust.age_s(now_ms, job.queued_at if job.attempts else job.created_at)
        if job.cancel:
            self.cancel(job, reason=job.cancel_reason or "client_request")
        elif self.client_is_gone(job, now_ms):
            log.info("job %s: its client is gone, cancelled before it began", job.id, extra=job.log_ids)
            self.cancel(job, reason="client_gone")
        elif 0 < job.deadline < now_ms and not job.seq:
            self.fail(job, reason=TOO_LATE, message=TOO_LATE_TEXT)
        elif self._waits_in_vain(job, waited_s) and self.trust.held_for(2 * self.settings.lease_s):
            self._give_up(job)
        else:
            return False
        return True

    def _waits_in_vain(self, job: JobHead, waited_s: float) -> bool:
        """Whether it should have begun by now. A background job may wait for as long as others are served."""
        return waited_s > self.settings.queue_timeout_s and not (job.background and self._is_served)

    def _give_up(self, job: JobHead) -> None:
        """Fail a job that no worker took in time. `queue_timeout` is only for jobs that never had a worker."""
        within = f"within {self.settings.queue_timeout_s:.0f} s"
        if job.attempts:
            message = f"The job was begun {job.attempts} times, and lost its worker. No other took it again {within}."
            self.fail(job, reason="model_not_ready", message=message)
        else:
            self.fail(job, reason="queue_timeout", message=f"No worker took the job {within}.")

    def _must_resend(self, job: JobHead, rank: int, waited_s: float, *, some_lost: bool) -> bool:
        """Whether its message may be lost: there are fewer messages than jobs, or it is first in line and not taken."""
        sent = self._sent.get(job.id)
        since_s, times = (time.monotonic() - sent.at, sent.times) if sent else (waited_s, 0)
        first_in_line = rank < HEAD and since_s > RESEND_S * (rank + 1) * 2 ** min(times, MAX_DOUBLINGS)
        if not first_in_line and not (some_lost and (not times or since_s > 2 * RESEND_S)):
            return False
        self._sent[job.id] = Sent(time.monotonic(), times + 1)
        return True
