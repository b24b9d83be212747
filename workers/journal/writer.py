"""Writes the events of all jobs that one worker holds into their journals. Knows no engine or provider.

One thread, the emitter, calls `tend` in a loop; the rest may be called from any thread.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence

from celery import Celery

from gateway.jobs.events import Append
from gateway.jobs.journal_store import Appended, AppendVerdict, News
from gateway.jobs.record import Cause, JobState
from gateway.jobs.store import Ended, JobStore
from gateway.queue.enqueue import tell
from gateway.queue.names import Priority
from gateway.settings import Settings
from gateway.store.connection import NOT_NOW
from workers.engines.flush_interval import IMMEDIATE, FlushInterval
from workers.journal.audit import Audit
from workers.journal.claimed_job import ClaimedJob
from workers.journal.held_jobs import HeldJobs

log = logging.getLogger(__name__)

#: Heartbeats in each lease.
BEATS_PER_LEASE = 5
#: The longest sleep of the emitter.
MAX_WAIT_S = 0.25
#: How often the jobs that this worker owns in Redis are compared with its table.
AUDIT_S = 2.0
#: Pause of the emitter while Redis takes no appends, and how often that is logged.
NOT_NOW_S, WARN_S = 0.1, 2.0


class Journaler(HeldJobs):
    """A table of claimed jobs, flushed to Redis together. `owner` is the incarnation that holds the claims.

    Events are written at once, unless a `pace` delays those that are not urgent.
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
        super().__init__(store=store, owner=owner, on_drop=on_drop)
        self.settings = settings
        self.celery = celery
        self.audit = Audit(self, celery)
        #: Sequences in the batch of this worker; 0: it has none.
        self.batch = 0
        self._pace = pace
        self._flushed_at = self._next_beat = self._next_audit = 0.0
        self._warned_at = -WARN_S
        #: Jobs whose end was written, and that are not settled.
        self._ended: list[Ended] = []

    @property
    def waits_s(self) -> float:
        """How long the emitter may sleep: at most one interval while events wait."""
        return min(self._pace.interval_s(len(self._held)), MAX_WAIT_S) if self._dirty else MAX_WAIT_S

    def release(self, jobs: Iterable[ClaimedJob], cause: Cause) -> None:
        """Return jobs to the queue, except those that have ended meanwhile.

        They are restored first if Redis was restarted, since it may lack them.
        """
        try:
            self.audit.redis_came_back()
        except NOT_NOW as error:
            log.warning("jobs are given back though Redis may not have them all: %s", error)
        held = set(self.held)
        for job in [job for job in jobs if job in held]:
            self.drop(job)
            self.audit.give_back(job.job, cause)

    def tend(self, beat: Callable[[], None]) -> None:
        """Write new events; send the heartbeat, and audit the claims, when it is time."""
        self.flush()
        now = time.monotonic()
        try:
            if now >= self._next_beat:
                self._next_beat = now + self.settings.lease_s / BEATS_PER_LEASE
                beat()
                self.audit.look_at_quiet_jobs()
            if now >= self._next_audit:
                self._next_audit = now + AUDIT_S
                self.audit.release_unknown()
        except NOT_NOW as error:
            log.warning("no heartbeat: %s", error)

    def flush(self, *, everything: bool = False) -> None:
        """Append what is new in one round trip, then publish it once per watching process.

        What begins or ends goes out at once; the rest of all jobs goes together, in the journaler's pace, or now if it
        is to be `everything`. Events of one job keep their order; between jobs there is none. What Redis does not take
        now stays, and the call sleeps for NOT_NOW_S so that the emitter does not spin. A job that Redis says is to be
        cancelled ends as cancelled, which the next flush writes; one whose claim is gone is dropped.
        """
        pairs: list[tuple[ClaimedJob, Append]] = []
        for job in self._due(everything):
            with self.bulkhead(job):
                if append := job.unconfirmed():
                    pairs.append((job, append))
        if not pairs:
            return
        verdicts = self._append([append for _, append in pairs])
        hubs: dict[str, list[tuple[str, int, Sequence[str]]]] = {}
        for (job, append), verdict in zip(pairs, verdicts, strict=True):
            for hub in verdict.watch:
                hubs.setdefault(hub, []).append((append.job_id, append.first_seq, list(append.events)))
            try:
                with self.bulkhead(job):
                    self._act_on(job, append, verdict)
            except NOT_NOW as error:
                log.warning("job %s waits for Redis: %s", job.id, error, extra=job.job.log_ids)
                self.touch(job)
        self._finalize(hubs)

    def _finalize(self, news: News) -> None:
        """Publish what was written, and settle the jobs whose end was."""
        ended, self._ended = self._ended, []
        try:
            if ended or news:
                self.store.finalize(*ended, news=news)
        except NOT_NOW as error:
            log.warning(
                "%d jobs are not settled, the keeper will do it; watchers read the journal: %s", len(ended), error
            )

    def _due(self, everything: bool) -> list[ClaimedJob]:
        """Take the jobs whose events are written now."""
        now = time.monotonic()
        if everything or now >= self._flushed_at + self._pace.interval_s(len(self._held)):
            self._flushed_at = now
            return self.take_dirty(urgent_only=False)
        return self.take_dirty(urgent_only=True)

    def _append(self, appends: list[Append]) -> list[Appended]:
        """The verdicts on all appends, also if Redis took only some or none."""
        try:
            verdicts = self.store.journals.append(appends, batch=self.batch)
        except NOT_NOW as error:
            verdicts = [Appended(AppendVerdict.NOT_NOW, error=str(error))] * len(appends)
        except Exception as error:  # one of them can't be encoded
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
        """Act on the script's verdict. Raises: NOT_NOW."""
        if verdict.verdict is AppendVerdict.OK:
            job.confirm(append)
            self._after_append(job, cancel=verdict.cancel)
            if not job.flushed:
                self.touch(job)
        elif verdict.verdict is AppendVerdict.NOT_NOW:
            self.touch(job)
        elif verdict.verdict is AppendVerdict.GAP and job.rewind(verdict.seq):
            log.warning("job %s: journal went back to %d, sending again", job.id, verdict.seq, extra=job.job.log_ids)
            self.touch(job)
        elif verdict.verdict is AppendVerdict.REFUSED:
            raise RuntimeError(f"Redis refuses its events: {verdict.error}")
        elif verdict.verdict is AppendVerdict.MISSING:
            self.audit.make_anew(job)
        elif not self.audit.redis_came_back():
            log.warning("job %s: append refused (%s)", job.id, verdict.verdict, extra=job.job.log_ids)
            self.drop(job)

    def _after_append(self, job: ClaimedJob, *, cancel: str) -> None:
        if job.state is JobState.QUEUED and job.flushed:
            self.drop(job)
            self._pass_on(job)
        elif job.state is not None and job.flushed:
            self.drop(job)
            self.audit.note_end(job)
            self._ended.append(Ended(job.job, job.state, job.usage(), job.error.get("reason", "")))
        elif cancel:
            self.cancel(job, cancel)

    def _pass_on(self, job: ClaimedJob) -> None:
        """Wake up a worker of the model to which the job was handed over."""
        try:
            wakes = self.store.indexes.after_handover(job.job, job.route)
        except NOT_NOW as error:
            text = "job %s: %s was not told of it (%s); the keeper will do it"
            log.warning(text, job.id, job.route, error, extra=job.job.log_ids)
        else:
            tell(self.celery, wakes, job.id, queue_key=job.route, priority=Priority.RECOVERED)
