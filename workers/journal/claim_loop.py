"""How a worker gets a job: read, claim, check for quarantine, prepare, hold. The same for all workers.

Knows no engine and no provider: workers pass in what is special about them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

from gateway.errors import HeadraceError
from gateway.jobs.control import TOO_LATE, TOO_LATE_TEXT, cancel, fail
from gateway.jobs.record import Job, JobHead, JobState, new_claim_id
from gateway.process.log_context import about
from gateway.store.connection import NOT_NOW
from workers.journal.claimed_job import ClaimedJob
from workers.journal.quarantine import PoisonRule
from workers.journal.writer import Journaler

log = logging.getLogger(__name__)

Claimed = TypeVar("Claimed", bound=ClaimedJob)


class ClaimLoop:
    """Claims jobs in a journaler's name. Thread-safe.

    `keeps_cancelled`: a job marked for cancellation is prepared all the same, since it must be rolled back.
    """

    def __init__(self, journaler: Journaler, rule: PoisonRule, *, keeps_cancelled: bool = False) -> None:
        self._journaler = journaler
        self._store = journaler.store
        self._rule = rule
        self._keeps_cancelled = keeps_cancelled

    def take(self, job_id: str, admit: Callable[[JobHead], Claimed | None]) -> Claimed | None:
        """Call `admit` with a waiting job. It may leave the job, or `claim` it when there is room.

        It gets the head alone. The request, which may be long, comes once, with the claim.

        Returns what `admit` returns; None if the job is taken, ended or gone. Errors of `admit` end the job.

        Raises: NOT_NOW.
        """
        with self._journaler.claiming(job_id) as new, self._journaler.ending(job_id):
            waiting = self._store.head(job_id) if new else None
            if waiting is not None and waiting.state is JobState.QUEUED:
                return admit(waiting)
        return None

    def take_new(self, job_ids: Sequence[str], prepare: Callable[[Job], Claimed], *, model: str) -> list[Claimed]:
        """Claim jobs that were offered to this worker and have never begun, in one round trip, and hold what `prepare`
        makes of each. They need not be looked at first.

        Whatever is wrong with one of them concerns none of the others. Returns those that are held.

        Raises: NOT_NOW, if none was claimed.
        """
        held: list[Claimed] = []
        with self._journaler.claiming(*job_ids) as new:
            claims = {job_id: new_claim_id() for job_id in new}
            answers = self._store.claim_many(claims, model=model, owner=self._journaler.owner)
            for job_id, answer in zip(new, answers, strict=True):
                try:
                    with self._journaler.ending(job_id):
                        held += filter(None, [self._held(answer(), prepare)])
                except NOT_NOW as error:
                    log.warning(
                        "job %s: not begun (%s); it is offered again, or given back",
                        job_id,
                        error,
                        extra={"job_id": job_id},
                    )
        return held

    def claim(self, job_id: str, prepare: Callable[[Job], Claimed], *, model: str) -> Claimed | None:
        """Claim a job that waits for `model`, and hold what `prepare` makes of it.

        Returns None if another worker was faster, or if the job can't run: then it has ended.

        Raises: NOT_NOW, Unreadable, and what `prepare` raises, but for HeadraceError.
        """
        owner = self._journaler.owner
        return self._held(self._store.claim(job_id, model=model, owner=owner, claim=new_claim_id()), prepare)

    def _held(self, job: Job | None, prepare: Callable[[Job], Claimed]) -> Claimed | None:
        if job is None:
            return None
        with about(job.log_ids):
            run = self._prepared(job, prepare)
        if run is not None:
            self._journaler.hold(run)
        return run

    def _prepared(self, job: Job, prepare: Callable[[Job], Claimed]) -> Claimed | None:
        if job.cancel and not self._keeps_cancelled:
            cancel(self._store, job, reason=job.cancel_reason or "client_request", take_claim=job.claim)
            return None
        if 0 < job.deadline < self._store.clock.estimated_now_ms() and not job.seq:
            fail(self._store, job, reason=TOO_LATE, message=TOO_LATE_TEXT, take_claim=job.claim)
            return None
        if verdict := self._rule.verdict(job):
            fail(self._store, job, reason=verdict.reason, message=verdict.message, take_claim=job.claim, **verdict.more)
            return None
        try:
            return prepare(job)
        except HeadraceError as error:
            wait = {"retry_after_s": error.retry_after_s} if error.retry_after_s else {}
            fail(self._store, job, reason=error.reason, message=error.message, take_claim=job.claim, **wait)
            return None
