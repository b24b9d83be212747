"""The jobs that one worker holds, their way into the journal, and its way out of trouble. Knows no engine or provider.

One thread, the emitter, calls `tend` in a loop; the rest may be called from any thread. Whatever goes wrong with one
job ends that job, and touches no other.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator

from celery import Celery

from gateway.errors import Unreadable
from gateway.jobs.control import fail
from gateway.jobs.damaged import quarantine
from gateway.jobs.events import Append
from gateway.jobs.journal_store import Appended, AppendVerdict
from gateway.jobs.record import Cause, Job, JobHead, JobState
from gateway.jobs.recovery import give_back, held_by
from gateway.jobs.store import JobStore
from gateway.queue.queues import Priority, enqueue_or_leave_to_keeper
from gateway.settings import Settings
from gateway.store.connection import NOT_NOW, is_lasting, run_id
from workers.engines.flush_interval import IMMEDIATE, FlushInterval
from workers.journal.claimed_job import ClaimedJob

log = logging.getLogger(__name__)

#: How often the heartbeat is sent, as a share of the lease.
BEATS_PER_LEASE = 5
#: The longest sleep of the emitter.
MAX_WAIT_S = 0.25
#: How often the jobs that Redis holds in this worker's name are compared with its own table.
AUDIT_S = 2.0
#: For how long the events of an ended job are kept, in case that Redis comes back without its last second.
KEEP_ENDED_S = 10.0
#: Pause of the emitter when Redis takes no appends, and how often that is said.
NOT_NOW_S, WARN_S = 0.1, 2.0


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
        pace: FlushInterval = IMMEDIATE,
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
        self._warned_at = -WARN_S
        self._redis_run_id = ""
        self._restoring = threading.Lock()
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
        """While a claim is made, the audit leaves the job alone. False if this worker has the job already.

        Whatever is raised within ends the job, unless it is a matter of waiting: it must not come back for ever.

        Raises: NOT_NOW, and what was claimed is given back by the audit.
        """
        with self._lock:
            mine = job_id not in self._held and job_id not in self._claiming
            if mine:
                self._claiming.add(job_id)
        try:
            yield mine
        except Exception as error:
            if isinstance(error, NOT_NOW) and not is_lasting(error):
                raise
            self._break_off(job_id, error)
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

    def release(self, jobs: Iterable[ClaimedJob], cause: Cause) -> None:
        """Give jobs back to the queue, but for those that have ended meanwhile.

        Redis must have them for that: if it has just come back, it may not.
        """
        try:
            self._redis_came_back()
        except NOT_NOW as error:
            log.warning("jobs are given back though Redis may not have them all: %s", error)
        held = set(self.held)
        for job in [job for job in jobs if job in held]:
            self.drop(job)
            self._give_back(job.job, cause)

    @contextlib.contextmanager
    def bulkhead(self, job: ClaimedJob) -> Iterator[None]:
        """What is raised within fails this job, and no other, unless it is a matter of waiting.

        Raises: NOT_NOW.
        """
        try:
            yield
        except Exception as error:
            if isinstance(error, NOT_NOW) and not is_lasting(error):
                raise
            log.exception("job %s: an error of ours", job.id)
            self.drop(job)
            break_off(self.store, job.job, error)

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
        pairs: list[tuple[ClaimedJob, Append]] = []
        for job in self._due(everything):
            with self.bulkhead(job):
                if append := job.unconfirmed():
                    pairs.append((job, append))
        if not pairs:
            return
        verdicts = self._append([append for _, append in pairs])
        hubs: dict[str, list[tuple[str, int, list[str]]]] = {}
        for (job, append), verdict in zip(pairs, verdicts, strict=True):
            for hub in verdict.watch:
                hubs.setdefault(hub, []).append((append.job_id, append.first_seq, list(append.events)))
            try:
                with self.bulkhead(job):
                    self._act_on(job, append, verdict)
            except NOT_NOW as error:
                log.warning("job %s waits for Redis: %s", job.id, error)
                self.touch(job)
        try:
            self.store.journals.publish(hubs)
        except NOT_NOW as error:
            log.warning("not published, watchers will read the journal: %s", error)

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

    def _append(self, appends: list[Append]) -> list[Appended]:
        """The verdicts on all of them, also if Redis has taken some or none."""
        try:
            verdicts = self.store.journals.append(appends)
        except NOT_NOW as error:
            verdicts = [Appended(AppendVerdict.NOT_NOW, error=str(error))] * len(appends)
        except Exception as error:  # one of them can't even be sent
            log.exception("%d journals can't be written together", len(appends))
            if len(appends) == 1:
                return [Appended(AppendVerdict.REFUSED, error=repr(error))]
            return [verdict for append in appends for verdict in self._append([append])]
        late = [verdict for verdict in verdicts if verdict.verdict is AppendVerdict.NOT_NOW]
        if late:
            if time.monotonic() > self._warned_at + WARN_S:
                self._warned_at = time.monotonic()
                log.warning("the journals of %d jobs wait for Redis: %s", len(late), late[0].error)
            time.sleep(NOT_NOW_S)
        return verdicts

    def _act_on(self, job: ClaimedJob, append: Append, verdict: Appended) -> None:
        """Do what follows from the script's verdict. Raises: NOT_NOW."""
        if verdict.verdict is AppendVerdict.OK:
            job.confirm(append)
            self._after_append(job, cancel=verdict.cancel)
            if not job.flushed:
                self.touch(job)
        elif verdict.verdict is AppendVerdict.NOT_NOW:
            self.touch(job)
        elif verdict.verdict is AppendVerdict.GAP and job.rewind(verdict.seq):
            log.warning("job %s: journal went back to %d, sending again", job.id, verdict.seq)
            self.touch(job)
        elif verdict.verdict is AppendVerdict.REFUSED:
            raise RuntimeError(f"Redis refuses its events: {verdict.error}")
        elif verdict.verdict is AppendVerdict.MISSING:
            log.warning("job %s: its record is gone, making it anew", job.id)
            self._restore(job)
        elif not self._redis_came_back():
            log.warning("job %s: append refused (%s)", job.id, verdict.verdict)
            self.drop(job)

    def _after_append(self, job: ClaimedJob, *, cancel: str) -> None:
        if job.state is JobState.QUEUED and job.flushed:
            self.drop(job)
            self._pass_on(job)
        elif job.state is not None and job.flushed:
            self.drop(job)
            with self._lock:
                self._ended.append((time.monotonic(), job))
            try:
                self.store.finalize(job.job, job.state, usage=job.usage(), reason=job.error.get("reason", ""))
            except NOT_NOW as error:
                log.warning("job %s: not settled (%s); the keeper will do it", job.id, error)
        elif cancel and not job.cancel_reason:
            job.cancel_reason = cancel
            job.cancel()
            self.touch(job)

    def _after_beat(self, now: float) -> None:
        """Learn of claims that were taken away and of cancellations, also where nothing is appended."""
        self._redis_came_back()
        with self._lock:
            while self._ended and self._ended[0][0] < now - KEEP_ENDED_S:
                self._ended.popleft()
        quiet = {job.id: job for job in self.held if job.flushed}
        for job_id, record in self.store.heads(quiet).items():
            job = quiet[job_id]
            if record is None:
                log.warning("job %s: its record is gone, making it anew", job.id)
                self._restore(job)
            elif record.claim != job.job.claim or record.state.ended:
                self.drop(job)
            elif record.cancel:
                self._after_append(job, cancel=record.cancel_reason or "client_request")

    def _redis_came_back(self) -> bool:
        """Whether Redis is another process than last time. If so, it may lack its last second: send it all again."""
        with self._restoring:
            before, now = self._redis_run_id, run_id(self.store.redis)
            if before not in ("", now):
                log.warning("Redis has restarted; what it may have forgotten is sent again")
                with self._lock:
                    held, ended = list(self._held.values()), list(self._ended)
                for job in [*held, *(job for _, job in ended)]:
                    self._restore(job)
                with self._lock:  # not before all are restored; each comes back when its end is confirmed again
                    self._ended = deque(one for one in self._ended if one not in ended)
            self._redis_run_id = now
        return before not in ("", now)

    def _restore(self, job: ClaimedJob) -> None:
        """Put a job back into Redis, and all its events of this claim. Raises: NOT_NOW."""
        with self.bulkhead(job):
            self.store.restore(job.job, owner=self.owner)
            job.rewind(job.first_seq - 1)
            self.touch(job)

    def _audit(self) -> None:
        """Release jobs that Redis holds in our name but that we do not know (a claim whose reply was lost)."""
        for job in held_by(self.store, self.owner, without=self._known()):
            if job.id not in self._known():
                log.warning("job %s: held in our name but unknown here, released", job.id)
                self._give_back(job, Cause.GIVEN_BACK)

    def _known(self) -> set[str]:
        with self._lock:
            return {*self._claiming, *self._held}

    def _break_off(self, job_id: str, error: Exception) -> None:
        """End a job that waits, or that is claimed in our name, though it is not held yet. Raises: NOT_NOW."""
        log.error("job %s: not begun", job_id, exc_info=error)
        try:
            if isinstance(error, Unreadable):
                raise error
            job = self.store.read(job_id)
        except Unreadable:
            quarantine(self.store, job_id)
            return
        if job and (job.state is JobState.QUEUED or job.owner == self.owner):
            break_off(self.store, job, error)

    def _pass_on(self, job: ClaimedJob) -> None:
        """The job waits for another model now: tell its queue."""
        try:
            self.store.indexes.after_handover(job.job, job.route)
        except NOT_NOW as error:
            log.warning("job %s: %s was not told of it (%s); the keeper will do it", job.id, job.route, error)
        else:
            enqueue_or_leave_to_keeper(self.celery, job.id, place=job.route, priority=Priority.RECOVERED)

    def _give_back(self, job: JobHead, cause: Cause) -> None:
        try:
            give_back(self.store, self.celery, job, cause)
        except NOT_NOW as error:
            log.warning("job %s: not released (%s); the keeper will find it", job.id, error)


def break_off(store: JobStore, job: Job, error: Exception) -> None:
    """Fail a claimed job by an error of ours. If Redis does not take that now, the claim is audited later."""
    message = f"Something went wrong on our side ({type(error).__name__}); the worker's log has it under the job's id."
    try:
        fail(store, job, reason="internal_error", message=message, take_claim=job.claim)
    except Exception:  # whatever it is, the other jobs go on
        log.exception("job %s: its end was not written", job.id)
