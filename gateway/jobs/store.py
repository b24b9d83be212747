"""The job record in Redis, which is the truth of every request. Knows nothing of queues, engines or HTTP.

A job moves queued -> running -> done | failed | cancelled; a dead owner's job goes back to queued. Each change is one
Lua script in `gateway/store/lua`, idempotent by claim id: a call whose reply was lost can be made again.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple, cast

import redis

from gateway.errors import StoreUnavailable, is_client_error
from gateway.jobs.indexes import Indexes, Load
from gateway.jobs.journal_store import NO_NEWS, JournalStore, News
from gateway.jobs.ledger import Ledger
from gateway.jobs.record import HEAD_FIELDS, RECORD_VERSION, Cause, Job, JobHead, JobState
from gateway.jobs.statistics import Stats, counting
from gateway.store import keys
from gateway.store.clock import Clock
from gateway.store.codec import dumps, loads
from gateway.store.connection import pipeline
from gateway.store.joined import Command
from gateway.store.loop import guarded
from gateway.store.scripts import Scripts
from gateway.store.unreadable import leaving_out, reading

#: After a restart of Redis, clients have this long to come back to a job whose record was lost.
LEASE_AFTER_RESTART_MS = 15_000


@dataclass(frozen=True)
class Room:
    """Up to where a line is as long as it may be."""

    #: The last position at which a job is taken; 0: any.
    last: int = 0
    #: Jobs of the line that begin in a second; 0: not known.
    per_second: float = 0.0


@dataclass(frozen=True)
class Created:
    """A job, its position in the queue, and the load including it."""

    job: Job
    position: int
    load: Load
    #: It was not created, since the line is full, and may be asked for again in so many ms; 0: it was created.
    retry_ms: int = 0
    #: Then room is kept for so many others that were told to come back.
    coming: int = 0
    #: Created by this call, not by an earlier one with the same id.
    new: bool = True
    #: The queue of a worker that is to be told of it; empty: those that could run it have something to do.
    wakes: str = ""


class Ended(NamedTuple):
    """A job has ended, and what it has used; `reason` is why it failed."""

    job: Job
    state: JobState
    usage: Mapping[str, int]
    reason: str = ""


class Released(NamedTuple):
    """A job waits again."""

    #: The queue of a worker that is to be told of it; empty: those that could run it have something to do.
    wakes: str


class JobStore:
    """All reads and writes of job records; `journals`, `indexes`, `ledger` and `clock` have the rest.

    Every method, also of these, asks Redis, and may raise NOT_NOW (`gateway/store/connection.py`): the caller waits and
    tries again, leaves it to the keeper, or returns an error to its client.
    """

    def __init__(self, client: redis.Redis) -> None:
        self.redis = client
        self.scripts = Scripts(client)
        self.clock = Clock(client)
        self.ledger = Ledger(client, self.scripts)
        self.journals = JournalStore(client, self.scripts)
        self.indexes = Indexes(client, self.scripts, self.ledger, self.clock)

    def create(
        self,
        job: Job,
        *,
        ttl_ms: int,
        hub_id: str = "",
        attended_ms: int = -1,
        pinned: bool = False,
        room: Room = Room(),
    ) -> Created:
        """Write a queued job, in one script: it is in all indexes, and in its line, or nowhere.

        `attended_ms`: the client lease, after which the keeper cancels the job unless it is renewed; -1 = none.
        `pinned`: it stands in no line, since one replica is told to take it. Without `room` it is not created.
        """
        request = dumps(job.request)
        fields = {**job.new_fields(), "request": request, "ttl_ms": ttl_ms, "watch": hub_id}
        opens = next(iter(self.ledger.opens(job)), "")
        indexes = (keys.owned(job.key_id), keys.QUEUES, keys.queued(job.runs_on), keys.stored(job.key_id))
        names = [*keys.of_job(job.id), opens, "" if pinned else keys.lines(job.runs_on), *indexes]
        asked = hashlib.blake2b(f"{job.key_id} {job.kind} {request}".encode(), digest_size=8).hexdigest()
        numbers = (len(request.encode()), attended_ms, room.last, round(1000 * room.per_second))
        pairs = (part for pair in fields.items() for part in pair)
        reply = self.scripts.run("create", names, job.id, job.runs_on, *numbers, asked, *pairs)
        created_at, new, fingerprint, wakes, position, retry_ms, coming, opened, stored = reply
        made = replace(job, created_at=int(created_at), ttl_ms=ttl_ms, fingerprint=str(fingerprint))
        load = Load(int(opened), int(stored))
        return Created(made, int(position), load, int(retry_ms), int(coming), bool(new), str(wakes))

    def discard(self, job: Job) -> None:
        """Remove a job that was just created and of which no client knows, unless it has begun.

        In steps: a job that could not be deleted is still counted, and one that could not be refunded is still found
        by the keeper.
        """
        if not self.scripts.run("discard", [*keys.of_job(job.id), keys.lines(job.runs_on)], job.id):
            return
        pipe = self.redis.pipeline(transaction=False)
        pipe.zrem(keys.queued(job.runs_on), job.id)
        self.ledger.refund(pipe, job)
        self.ledger.drop(pipe, job.key_id, [job.id])
        self.scripts.execute(pipe)
        self.redis.zrem(keys.owned(job.key_id), job.id)

    def claim(self, job_id: str, *, model: str, owner: str, claim: str) -> Job | None:
        """Claim a queued job of a model, in one round trip.

        Returns its record; None if it is taken, has ended, is gone, was handed to another model, or is of a newer
        version than this program knows.

        Raises: Unreadable; then the claim holds until the record is quarantined.
        """
        (read,) = self.claim_many({job_id: claim}, model=model, owner=owner)
        return read()

    def claim_many(self, claims: Mapping[str, str], *, model: str, owner: str) -> list[Callable[[], Job | None]]:
        """The same for several jobs in one round trip, each under its claim id.

        Returns what reads the answer of each: it returns, and raises, what `claim` does, so that what is wrong with one
        does not concern the others.
        """
        names = (keys.RUNNING, keys.queued(model), keys.lines(model), keys.held(owner))
        commands = [
            self.scripts.call("claim", [*keys.of_job(job_id), *names], owner, claim, model, RECORD_VERSION, job_id)
            for job_id, claim in claims.items()
        ]
        replies = self.scripts.execute_commands(commands, raise_on_error=False)
        return [partial(self._claimed, job_id, model, reply) for job_id, reply in zip(claims, replies, strict=True)]

    def _claimed(self, job_id: str, model: str, reply: Any) -> Job | None:
        with reading(_record(job_id)):
            if isinstance(reply, Exception):
                raise reply
            verdict, flat = reply
            if verdict == "ok":
                return Job.parse(job_id, dict(zip(flat[::2], flat[1::2], strict=True)))
        self.indexes.track(job_id, model)  # it stood where it does not belong
        return None

    def restore(self, job: Job, *, owner: str) -> None:
        """Restore what a restarted Redis may have lost of a job that this worker runs, or has just run.

        A missing record is created again, a missing claim is taken again; any later state stays, and so does the record
        of another request with the same idempotency key.
        """
        state, fingerprint = cast("list[str | None]", self.redis.hmget(keys.job(job.id), "state", "fingerprint"))
        if state is None:  # else it may be settled, and must not be counted again
            attended_ms = LEASE_AFTER_RESTART_MS if job.attended_until >= 0 else -1
            fingerprint = self.create(job, ttl_ms=job.ttl_ms, attended_ms=attended_ms).job.fingerprint
        if (fingerprint or "") == job.fingerprint:
            self.claim(job.id, model=job.runs_on, owner=owner, claim=job.claim)

    def release(self, job: JobHead, cause: Cause) -> Released | None:
        """Return a running job to the queue. None if `job.claim` does not hold it any more."""
        pipe = self.redis.pipeline(transaction=False)
        self._call(pipe, "release", job.id, job.claim, cause.value)
        self.indexes.add_track(pipe, job.id, job.runs_on)
        released, (_, wakes) = self.scripts.execute(pipe)
        return Released(str(wakes)) if released else None

    def progress(self, jobs: Iterable[Job]) -> None:
        """Refresh `progress_at` of running jobs without new events."""
        pipe = self.redis.pipeline(transaction=False)
        for job in jobs:
            self._call(pipe, "progress", job.id, job.claim)
        self.scripts.execute(pipe)

    def end(
        self, job: Job, state: JobState, body: Mapping[str, Any], *, take_claim: str = ""
    ) -> tuple[str, int, tuple[str, ...]]:
        """End a queued job, or a running one whose claim is `take_claim`; mark any other for cancellation.

        Returns the script's verdict, the journal's last seq, and the processes that watch.
        """
        fields = {"error": dumps(body["error"])} if "error" in body else {"reason": str(body.get("reason", ""))}
        fields |= job.end_fields()
        verdict, seq, watch, usage = self._run("end", job.id, state.value, dumps(body), dumps(fields), take_claim)
        if verdict == "ended":
            self.finalize(Ended(job, state, loads(usage), str(body.get("error", {}).get("reason", ""))))
        return str(verdict), int(seq), tuple(w for w in str(watch).split(",") if w)

    def finalize(self, *ends: Ended, news: News = NO_NEWS) -> None:
        """Publish what is new; settle jobs that have ended, clean up the indexes, and count them for the statistics, in
        one round trip.

        They stay in their index until they are settled, so that the keeper settles them if this process dies.
        A cancelled job, or one that failed for a reason that is the client's fault, does not count in the statistics.
        """
        now = self.clock.estimated_now_ms()
        commands: list[Command] = list(self.journals.publications(news))
        stats: dict[str, Stats] = defaultdict(Stats)
        for job, state, usage, reason in ends:
            with guarded(f"job {job.id}: not settled; the keeper will do it"):
                commands += [self.indexes.settling(job, usage), ("ZADD", keys.ended(job.runs_on), now, job.id)]
            if state is JobState.DONE:
                stats[job.runs_on] += Stats(answered=1, total_ms=now - job.created_at)
            elif state is JobState.FAILED and not is_client_error(reason):
                stats[job.runs_on] += Stats(failed=1)
        commands += counting(stats, now_ms=now)
        for reply in self.scripts.execute_commands(commands, raise_on_error=False):
            with leaving_out("What is counted of jobs that have ended"):
                if isinstance(reply, Exception):
                    raise reply

    def watch(self, job_id: str, *, hub_id: str, attended_ms: int) -> bool:
        """Publish the job's events to a hub from now on. False if there is no such job. Raises: Unreadable."""
        with reading(_record(job_id)):
            return bool(self._run("watch", job_id, hub_id, str(attended_ms)))

    def renew_leases(self, job_ids: Sequence[str], *, hub_id: str, attended_ms: int) -> list[str]:
        """Renew the client leases of these jobs, and the hub's subscription to their events.

        Returns the jobs for which Redis refused it.
        """
        pipe = self.redis.pipeline(transaction=False)
        for job_id in job_ids:
            self._call(pipe, "watch", job_id, hub_id, attended_ms)
        replies = self.scripts.execute(pipe, raise_on_error=False)
        return [job_id for job_id, reply in zip(job_ids, replies, strict=True) if isinstance(reply, Exception)]

    def read(self, job_id: str) -> Job | None:
        """The record, or None. Raises: Unreadable."""
        (reply,) = pipeline(self.redis, [("HGETALL", keys.job(job_id))], raise_on_error=False)
        with reading(_record(job_id)):
            return _job(job_id, reply)

    def head(self, job_id: str) -> JobHead | None:
        """The record without its request, or None. Raises: Unreadable."""
        (reply,) = pipeline(self.redis, [_get_head(job_id)], raise_on_error=False)
        with reading(_record(job_id)):
            return _head(job_id, reply)

    def require(self, job_id: str) -> None:
        """Raises: StoreUnavailable if Redis was away since the job was written, and has come back without it."""
        if not self.redis.exists(keys.job(job_id)):
            raise StoreUnavailable("Redis has lost the request before it was accepted. Send it again.")

    def read_many(self, job_ids: Sequence[str]) -> list[Job | None]:
        """Records in one round trip; None for one that is gone or can't be read."""
        replies = pipeline(self.redis, [("HGETALL", keys.job(job_id)) for job_id in job_ids], raise_on_error=False)
        found: list[Job | None] = []
        for job_id, reply in zip(job_ids, replies, strict=True):
            found.append(None)
            with leaving_out(_record(job_id)):
                found[-1] = _job(job_id, reply)
        return found

    def heads(self, job_ids: Iterable[str]) -> dict[str, JobHead | None]:
        """Records without their requests in one round trip; None for one that is gone.

        One that can't be read (a newer version wrote it, or it is damaged) is left out.
        """
        ids = list(job_ids)
        replies = pipeline(self.redis, [_get_head(job_id) for job_id in ids], raise_on_error=False)
        found: dict[str, JobHead | None] = {}
        for job_id, reply in zip(ids, replies, strict=True):
            with leaving_out(_record(job_id)):
                found[job_id] = _head(job_id, reply)
        return found

    def held_by(self, owner: str, *, itself: bool = False) -> list[str]:
        """The jobs that a worker incarnation runs, at the cost of these alone, if it is not of an older version.

        `itself`: it is the one that asks.
        """
        known, *ids = self.scripts.run("held", [keys.held(owner)], owner, int(itself))
        if known:
            return [str(job_id) for job_id in ids]
        owners = self.owners(cast("list[str]", self.redis.zrange(keys.RUNNING, 0, -1)))
        return [job_id for job_id, name in owners.items() if name == owner]

    def owners(self, job_ids: Iterable[str]) -> dict[str, str]:
        """The owner of each of these jobs, in one round trip; empty for none."""
        ids = list(job_ids)
        replies = pipeline(self.redis, [("HGET", keys.job(job_id), "owner") for job_id in ids])
        return {job_id: reply or "" for job_id, reply in zip(ids, replies, strict=True)}

    def _run(self, script: str, job_id: str, *args: str) -> Any:
        return self.scripts.run(script, keys.of_job(job_id), *args)

    def _call(self, pipe: redis.client.Pipeline, script: str, job_id: str, *args: str | int) -> None:
        """Add a script to a pipeline."""
        self.scripts.add(pipe, script, keys.of_job(job_id), *args)


def _record(job_id: str) -> str:
    return f"The record of job {job_id}"


def _job(job_id: str, reply: Any) -> Job | None:
    if isinstance(reply, Exception):
        raise reply
    return Job.parse(job_id, reply) if reply else None


def _get_head(job_id: str) -> tuple[str, ...]:
    return ("HMGET", keys.job(job_id), *HEAD_FIELDS)


def _head(job_id: str, reply: Any) -> JobHead | None:
    if isinstance(reply, Exception):
        raise reply
    raw = dict(zip(HEAD_FIELDS, reply, strict=True))
    return JobHead.parse(job_id, raw) if any(value is not None for value in reply) else None
