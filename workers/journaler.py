"""The jobs that one worker holds, their way into the journal, and its way out of trouble. Knows no engine or provider.

One thread, the emitter, calls `tend` in a loop; the rest may be called from any thread.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import cast

from celery import Celery

from gateway import keys
from gateway.job import Append, JobHead, JobState
from gateway.jobs import Appended, JobStore
from gateway.queues import Priority, send_hint
from gateway.redis import NOT_NOW, run_id
from gateway.settings import Settings
from workers.claimed import ClaimedJob
from workers.pace import AT_ONCE, Pace

log = logging.getLogger(__name__)

#: How often the heartbeat is sent, as a share of the lease.
BEATS_PER_LEASE = 5
#: The longest sleep of the emitter.
MAX_WAIT_S = 0.25
#: How often the jobs that Redis holds in this worker's name are compared with its own table.
AUDIT_S = 2.0
#: For how long the events of an ended job are kept, in case that Redis comes back without its last second.
KEEP_ENDED_S = 10.0


class Journaler:
    """A table of claimed jobs, flushed to Redis together. `owner` is the incarnation that holds the claims.

    Events are written as soon as they are there, unless a `pace` makes those wait for which nobody does.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        store: JobStore,
        celery: Celery,
        owner: str,
        on_drop: Callable[[ClaimedJob], None],
        pace: Pace = AT_ONCE,
    ) -> None:
        self.settings = settings
        self.store = store
        self.celery = celery
        self.owner = owner
        self._on_drop = on_drop
        self._pace = pace
        self._lock = threading.Lock()
        self._held: dict[str, ClaimedJob] = {}
        self._claiming: set[str] = set()
        self._dirty: dict[str, ClaimedJob] = {}
        self._flushed_at = self._next_beat = self._next_audit = 0.0
        self._redis_run_id = ""
        #: Jobs that ended lately; Redis may still forget their end.
        self._ended: deque[tuple[float, ClaimedJob]] = deque()

    # -- the table

    @property
    def held(self) -> list[ClaimedJob]:
        """The jobs that are held now."""
        with self._lock:
            return list(self._held.values())

    @property
    def waits_s(self) -> float:
        """How long the emitter may sleep: events that are not sent yet wait for one interval at most."""
        return min(self._pace.interval_s(len(self._held)), MAX_WAIT_S) if self._dirty else MAX_WAIT_S

    @contextlib.contextmanager
    def claiming(self, job_id: str) -> Iterator[bool]:
        """While a claim is made, the audit leaves the job alone. False if this worker has the job already."""
        with self._lock:
            mine = job_id not in self._held and job_id not in self._claiming
            if mine:
                self._claiming.add(job_id)
        try:
            yield mine
        finally:
            if mine:
                with self._lock:
                    self._claiming.discard(job_id)

    def hold(self, job: ClaimedJob) -> None:
        """Add a job that was claimed."""
        with self._lock:
            self._held[job.id] = self._dirty[job.id] = job

    def touch(self, *jobs: ClaimedJob) -> None:
        """Say that jobs have something new for the journal."""
        with self._lock:
            for job in jobs:
                self._dirty[job.id] = job

    def drop(self, job: ClaimedJob) -> None:
        """Forget a job, whatever its state."""
        self._on_drop(job)
        with self._lock:
            self._held.pop(job.id, None)
            self._dirty.pop(job.id, None)
        job.finished.set()

    def release(self, jobs: Iterable[ClaimedJob], *, crashed: bool) -> None:
        """Give jobs back to the queue. `crashed`: what ran them died, and they may be the cause."""
        for job in jobs:
            self.drop(job)
            self._give_back(job.job, crashed=crashed)

    # -- the emitter's thread

    def tend(self, beat: Callable[[], None]) -> None:
        """Write what is new; beat, and look after the claims, when it is time to."""
        self.flush()
        now = time.monotonic()
        try:
            if now >= self._next_beat:
                self._next_beat = now + self.settings.lease_s / BEATS_PER_LEASE
                beat()
                self._after_beat(now)
            if now >= self._next_audit:
                self._next_audit = now + AUDIT_S
                self._audit()
        except NOT_NOW as error:
            log.warning("no heartbeat: %s", error)

    def flush(self, *, everything: bool = False) -> None:
        """Append what is new in one round trip, then publish it once per watching process.

        What begins or ends goes out at once; the rest of all jobs goes together, in the journaler's pace.
        """
        jobs = self._due(everything)
        pairs = [(job, append) for job in jobs if (append := job.unconfirmed())]
        if not pairs:
            return
        try:
            for job, append in pairs:
                if append.state is JobState.QUEUED:
                    self.store.expect(job.job, job.route)
            verdicts = self.store.append([append for _, append in pairs])
        except NOT_NOW as error:
            log.warning("journal not reachable, %d jobs wait: %s", len(pairs), error)
            with self._lock:
                self._dirty = {job.id: job for job in jobs} | self._dirty
            time.sleep(0.1)
            return
        hubs: dict[str, list[tuple[str, int, list[str]]]] = {}
        refused: list[ClaimedJob] = []
        for (job, append), verdict in zip(pairs, verdicts, strict=True):
            for hub in verdict.watch:
                hubs.setdefault(hub, []).append((append.job_id, append.first_seq, list(append.events)))
            if not self._accepted(job, append, verdict):
                refused.append(job)
        try:
            self.store.publish(hubs)
        except NOT_NOW as error:
            log.warning("not published, watchers will read the journal: %s", error)
        if refused and not self._redis_came_back():
            for job in refused:
                self.drop(job)

    def _due(self, everything: bool) -> list[ClaimedJob]:
        """Take the jobs whose events go out now."""
        now = time.monotonic()
        with self._lock:
            if everything or now >= self._flushed_at + self._pace.interval_s(len(self._held)):
                jobs, self._dirty, self._flushed_at = list(self._dirty.values()), {}, now
            else:
                jobs = [job for job in self._dirty.values() if job.urgent]
                for job in jobs:
                    del self._dirty[job.id]
        return jobs

    def _accepted(self, job: ClaimedJob, append: Append, verdict: Appended) -> bool:
        """Act on the script's verdict. False if the journal does not take this job's events any more."""
        if verdict.verdict == "ok":
            job.confirm(append)
            self._after_append(job, cancel=verdict.cancel)
            if not job.settled:
                self.touch(job)
        elif verdict.verdict == "gap" and job.rewind(verdict.seq):
            log.warning("job %s: journal went back to %d, sending again", job.id, verdict.seq)
            self.touch(job)
        else:
            log.warning("job %s: append refused (%s)", job.id, verdict.verdict)
            return False
        return True

    def _after_append(self, job: ClaimedJob, *, cancel: bool) -> None:
        if job.state is JobState.QUEUED and job.settled:
            self.drop(job)
            self._pass_on(job)
        elif job.state is not None and job.settled:
            self.drop(job)
            self._ended.append((time.monotonic(), job))
            try:
                self.store.forget(job.job, job.state, usage=job.usage(), reason=job.error.get("reason", ""))
            except NOT_NOW as error:
                log.warning("job %s: not settled (%s); the keeper will do it", job.id, error)
        elif cancel and not job.cancelling:
            job.cancelling = True
            job.cancel()
            self.touch(job)

    def _after_beat(self, now: float) -> None:
        """Learn of claims that were taken away and of cancellations, also where nothing is appended."""
        self._redis_came_back()
        while self._ended and self._ended[0][0] < now - KEEP_ENDED_S:
            self._ended.popleft()
        quiet = [job for job in self.held if job.settled]
        for job, record in zip(quiet, self.store.heads(job.id for job in quiet).values(), strict=True):
            if record is None or record.claim != job.job.claim or record.state.ended:
                self.drop(job)
            elif record.cancel:
                self._after_append(job, cancel=True)

    def _redis_came_back(self) -> bool:
        """Whether Redis is another process than last time. If so, it may lack its last second: send it all again."""
        before, self._redis_run_id = self._redis_run_id, run_id(self.store.redis)
        if before in ("", self._redis_run_id):
            return False
        log.warning("Redis has restarted; what it may have forgotten is sent again")
        ended, self._ended = [job for _, job in self._ended], deque()
        for job in [*self.held, *ended]:
            self.store.restore(job.job, owner=self.owner)
            job.rewind(job.first_seq - 1)
            self.touch(job)
        return True

    def _audit(self) -> None:
        """Release jobs that Redis holds in our name but that we do not know (a claim whose reply was lost)."""
        ids = cast("list[str]", self.store.redis.zrange(keys.RUNNING, 0, -1))
        owners = self.store.owners(job_id for job_id in ids if not self._knows(job_id))
        for job in self.store.heads(job_id for job_id, owner in owners.items() if owner == self.owner).values():
            if job and job.state is JobState.RUNNING and job.owner == self.owner and not self._knows(job.id):
                log.warning("job %s: held in our name but unknown here, released", job.id)
                self._give_back(job, crashed=False)

    def _knows(self, job_id: str) -> bool:
        with self._lock:
            return job_id in self._claiming or job_id in self._held

    def _pass_on(self, job: ClaimedJob) -> None:
        """The job waits for another model now: tell its queue."""
        try:
            self.store.passed_on(job.job, job.route)
            send_hint(self.celery, job.id, place=job.route, priority=Priority.RECOVERED)
        except NOT_NOW as error:
            log.warning("job %s: %s was not told of it (%s); the keeper will do it", job.id, job.route, error)

    def _give_back(self, job: JobHead, *, crashed: bool) -> None:
        try:
            if self.store.release(job, crashed=crashed):
                send_hint(self.celery, job.id, place=job.runs_on, priority=Priority.RECOVERED)
        except NOT_NOW as error:
            log.warning("job %s: not released (%s); the keeper will find it", job.id, error)
