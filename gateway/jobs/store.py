"""The job record and its journal in Redis: the truth of every request. Knows nothing of queues, engines or HTTP.

A job moves queued -> running -> done | failed | cancelled; a dead owner's job goes back to queued. Each change is one
Lua script in `gateway/store/lua`, idempotent by claim id and seq: a call whose reply was lost can be made again.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import redis
from redis.client import NEVER_DECODE

from gateway.errors import StoreUnavailable, Unreadable, is_client_error
from gateway.jobs.ledger import Ledger
from gateway.jobs.record import (
    DEPLOYMENT,
    HEAD_FIELDS,
    RECORD_VERSION,
    Append,
    Cause,
    Event,
    EventType,
    Job,
    JobHead,
    JobState,
    is_newer,
    new_claim_id,
    salvaged,
)
from gateway.jobs.statistics import count_answer, count_failure
from gateway.store import checks, keys
from gateway.store.codec import dumps, loads
from gateway.store.connection import is_lasting, pipeline
from gateway.store.scripts import Scripts
from gateway.store.unreadable import leaving_out, reading

log = logging.getLogger(__name__)

#: Fields of the record that a job brings along: what was reserved for it; the rest, if it is restored.
_BROUGHT = ("reserved", "created_at", "crashes", "losses")
#: How often the difference between Redis' clock and ours is measured anew.
CLOCK_CHECK_S = 10.0
#: After a restart of Redis clients have so long to come back to a job whose record was lost.
LEASE_AFTER_RESTART_MS = 15_000
#: How long a record that could not be read is kept, and the one of a failed job in its place.
DAMAGED_MS = 86_400_000
#: What the score of a background job is more than the time in ms that it was made, as in `lib.lua`.
BACKGROUND_SCORE = 10**13
#: An entry of an index that has no record yet may be of a job that is being made.
YOUNG_MS = 60_000


@dataclass(frozen=True)
class Appended:
    """The script's verdict: ok, missing, fenced, ended or gap; `seq` is the journal's last.

    Or `not_now`, if Redis could not take it, and `refused`, if it never will: `error` says why.
    """

    verdict: str
    seq: int = 0
    #: Why it is to be cancelled, if it is.
    cancel: str = ""
    watch: tuple[str, ...] = ()
    error: str = ""

    @classmethod
    def from_reply(cls, reply: Any) -> Appended:
        """Read the script's reply, or the error in its place."""
        if isinstance(reply, Exception):
            return cls("refused" if is_lasting(reply) else "not_now", error=str(reply))
        verdict, seq, cancel, watch = reply
        return cls(verdict, int(seq), cancel, tuple(name for name in watch.split(",") if name))


def queue_score(created_at: int, background: bool) -> int:
    """Place in the queue index: interactive jobs first, then by age."""
    return created_at + (BACKGROUND_SCORE if background else 0)


@dataclass(frozen=True)
class Load:
    """What weighs on Redis and the queue of a model: jobs of one kind of priority that wait, and of one API key those
    that have not ended, and the bytes of its requests."""

    waiting: int
    open: int
    stored: int

    @classmethod
    def from_reply(cls, waiting: Any, opened: Any, stored: Any) -> Load:
        """From Redis' replies."""
        return cls(int(waiting), int(opened), int(stored or 0))


@dataclass(frozen=True)
class Created:
    """A job, its place in the queue, and the load with it."""

    job: Job
    position: int
    load: Load
    #: It was made by this call, not by an earlier one with the same id.
    new: bool = True


class JobStore:
    """All reads and writes of job records and journals."""

    def __init__(self, client: redis.Redis) -> None:
        self.redis = client
        self._clock_offset_ms, self._clock_checked = 0.0, -CLOCK_CHECK_S
        self.scripts = Scripts(client)
        self.ledger = Ledger(client, self.scripts)

    def create(self, job: Job, *, ttl_ms: int, hub_id: str = "", attended_ms: int = -1) -> Created:
        """Write a queued job, in one round trip. The index comes first: it must be a superset of the records.

        `attended_ms`: the keeper cancels the job if no watcher shows up for so long; -1 = it runs on by itself.
        """
        now = self.estimated_now_ms()
        fields: dict[str, str | int] = {
            "v": RECORD_VERSION,
            "state": JobState.QUEUED.value,
            "kind": job.kind,
            "model": job.model,
            "key_id": job.key_id,
            "request": (request := dumps(job.request)),
            "background": int(job.background),
            "ttl_ms": ttl_ms,
            "watch": hub_id,
            **({"route": job.route} if job.route else {}),
            **({"price": job.price} if job.price else {}),
            **({"fingerprint": job.fingerprint} if job.fingerprint else {}),
            **{name: value for name in _BROUGHT if (value := getattr(job, name))},
        }
        index = keys.queued(job.runs_on)
        pipe = self.redis.pipeline(transaction=False)
        pipe.zadd(keys.owned(job.key_id), {job.id: now})
        pipe.sadd(keys.QUEUES, job.runs_on)
        pipe.zadd(index, {job.id: queue_score(now, job.background)})
        names = [*keys.of_job(job.id), *self.ledger.opens(job)]
        self.scripts.add(
            pipe, "create", names, job.id, attended_ms, *(part for pair in fields.items() for part in pair)
        )
        self.ledger.store(pipe, job, request)
        pipe.zrank(index, job.id)
        self._weigh(pipe, job)
        *_, (created_at, new, fingerprint), _, rank, waiting, opened, stored = self.scripts.execute(pipe, whole=True)
        made = replace(job, created_at=int(created_at), ttl_ms=ttl_ms, fingerprint=str(fingerprint))
        return Created(made, (rank or 0) + 1, Load.from_reply(waiting, opened, stored), bool(new))

    def load(self, job: Job) -> Load:
        """What it would be with a job that is not made yet."""
        pipe = self.redis.pipeline(transaction=False)
        self._weigh(pipe, job)
        found = Load.from_reply(*self.scripts.execute(pipe))
        return Load(found.waiting + 1, found.open + 1, found.stored + len(dumps(job.request).encode()))

    def discard(self, job: Job) -> None:
        """Take back a job that was just created, and that nobody has been told of; one that has begun goes on.

        Step by step, so that one that could not be deleted is still counted, and one that could not be refunded is
        still found by the keeper.
        """
        if not self._run("discard", job.id):
            return
        pipe = self.redis.pipeline(transaction=False)
        pipe.zrem(keys.queued(job.runs_on), job.id)
        self.ledger.refund(pipe, job)
        self.ledger.drop(pipe, job.key_id, [job.id])
        self.scripts.execute(pipe)
        self.redis.zrem(keys.owned(job.key_id), job.id)

    def claim(self, job_id: str, *, model: str, owner: str, claim: str) -> Job | None:
        """Take a queued job of a model, in one round trip.

        Returns its record; None if it is taken, has ended, is gone, was handed to another model, or is of a newer
        version than this program knows.

        Raises: Unreadable, and then the claim holds until the job is put into quarantine.
        """
        pipe = self.redis.pipeline(transaction=False)
        self._call(pipe, "claim", job_id, owner, claim, model, RECORD_VERSION)
        self._track(pipe, job_id, model)
        with reading(_record(job_id)):
            (verdict, flat), _ = self.scripts.execute(pipe)
            return Job.parse(job_id, dict(zip(flat[::2], flat[1::2], strict=True))) if verdict == "ok" else None

    def restore(self, job: Job, *, owner: str) -> None:
        """Put back what a restarted Redis may have lost of a job that this worker runs, or ran until just now.

        A record that is missing is made anew, a claim that is missing is taken again; any later state stays. So does
        the record of another request, which has come with the same idempotency key since.
        """
        state, fingerprint = cast("list[str | None]", self.redis.hmget(keys.job(job.id), "state", "fingerprint"))
        if state is None:  # else it may be settled, and must not be opened again
            attended_ms = LEASE_AFTER_RESTART_MS if job.attended_until >= 0 else -1
            fingerprint = self.create(job, ttl_ms=job.ttl_ms, attended_ms=attended_ms).job.fingerprint
        if (fingerprint or "") == job.fingerprint:
            self.claim(job.id, model=job.runs_on, owner=owner, claim=job.claim)

    def append(self, appends: Sequence[Append]) -> list[Appended]:
        """Write events of many jobs in one round trip. The verdicts come in the same order."""
        sha = self.scripts.sha("append")
        commands: list[tuple[str | int | bytes, ...]] = []
        for item in appends:
            end = (item.state.value, dumps(item.fields)) if item.state else ("", "")
            head = ("EVALSHA", sha, 3, *keys.of_job(item.job_id), item.claim, item.first_seq, *end, item.tokens)
            vectors = (part for pair in item.vectors for part in pair)
            commands.append((*head, len(item.events), *item.events, *vectors))
        return [Appended.from_reply(reply) for reply in self.scripts.execute_commands(commands, raise_on_error=False)]

    def release(self, job: JobHead, cause: Cause) -> bool:
        """Give a running job back to the queue, if `job.claim` still holds it."""
        pipe = self.redis.pipeline(transaction=False)
        self._call(pipe, "release", job.id, job.claim, cause.value)
        self._track(pipe, job.id, job.runs_on)
        released, _ = self.scripts.execute(pipe)
        return bool(released)

    def track(self, job_id: str, model: str, *stale: str) -> str:
        """Put a job into the right index, that of running jobs or that of a model, if its record says so.

        `stale`: models in whose index it was found though it does not belong there.
        Returns its state, `missing`, or `elsewhere`, and then nothing was changed.
        """
        pipe = self.redis.pipeline(transaction=False)
        self._track(pipe, job_id, model, *stale)
        return str(self.scripts.execute(pipe)[0])

    def after_handover(self, job: Job, model: str) -> None:
        """Note that a running job was handed to another model, which counts as a failure of its own."""
        pipe = self.redis.pipeline(transaction=False)
        self._track(pipe, job.id, model)
        count_failure(pipe, job.runs_on, now_ms=self.estimated_now_ms())
        self.scripts.execute(pipe)

    def progress(self, jobs: Iterable[Job]) -> None:
        """Say that running jobs are worked on, though nothing is new in their journals."""
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
            self.finalize(job, state, usage=loads(usage), reason=str(body.get("error", {}).get("reason", "")))
        return str(verdict), int(seq), tuple(w for w in str(watch).split(",") if w)

    def finalize(self, job: Job, state: JobState, *, usage: Mapping[str, int], reason: str = "") -> None:
        """Settle a job that has ended, tidy the indexes, and count it for the drain rate and the statistics.

        It stays in its index until it is settled, so that the keeper settles it if this process dies.
        A cancelled job, or one that failed for a `reason` that lies with the client, says nothing of the model.
        """
        now = self.estimated_now_ms()
        pipe = self.redis.pipeline(transaction=False)
        self._settle(pipe, job, usage)
        pipe.zadd(keys.ended(job.runs_on), {job.id: now})
        if state is JobState.DONE:
            count_answer(pipe, job.runs_on, now_ms=now, latency_ms=now - job.created_at)
        elif state is JobState.FAILED and not is_client_error(reason):
            count_failure(pipe, job.runs_on, now_ms=now)
        for reply in self.scripts.execute(pipe, raise_on_error=False):
            with leaving_out(f"What is counted of {job.runs_on}"):
                if isinstance(reply, Exception):
                    raise reply

    def settle(self, job: JobHead) -> None:
        """Settle a job that has ended, from its record, and take it out of the indexes."""
        pipe = self.redis.pipeline(transaction=False)
        self._settle(pipe, job, job.usage)
        self.scripts.execute(pipe)

    def watch(self, job_id: str, *, hub_id: str, attended_ms: int) -> bool:
        """Have the job's events published to a hub. False if there is no such job. Raises: Unreadable."""
        with reading(_record(job_id)):
            return bool(self._run("watch", job_id, hub_id, str(attended_ms)))

    def renew_leases(self, job_ids: Sequence[str], *, hub_id: str, attended_ms: int) -> list[str]:
        """Say that clients are still there for these jobs, and that the hub wants their events.

        Returns those for which Redis has refused it.
        """
        pipe = self.redis.pipeline(transaction=False)
        for job_id in job_ids:
            self._call(pipe, "watch", job_id, hub_id, attended_ms)
        replies = self.scripts.execute(pipe, raise_on_error=False)
        return [job_id for job_id, reply in zip(job_ids, replies, strict=True) if isinstance(reply, Exception)]

    def position(self, job_id: str, model: str) -> int:
        """Place in the model's queue from 1, or 0 if the job does not wait there."""
        rank = cast("int | None", self.redis.zrank(keys.queued(model), job_id))
        return 0 if rank is None else rank + 1

    def read(self, job_id: str) -> Job | None:
        """The record, or None. Raises: Unreadable."""
        (job,) = self._read([job_id], raise_unreadable=True)
        return job

    def require(self, job_id: str) -> None:
        """Raises: StoreUnavailable if Redis was away since the job was written, and has come back without it."""
        if not self.redis.exists(keys.job(job_id)):
            raise StoreUnavailable("Redis has lost the request before it was accepted. Send it again.")

    def read_many(self, job_ids: Sequence[str]) -> list[Job | None]:
        """Records in one round trip. One that can't be read is None, as one that is gone."""
        return self._read(job_ids, raise_unreadable=False)

    def heads(self, job_ids: Iterable[str]) -> dict[str, JobHead | None]:
        """Records without their requests in one round trip, for those who look at many; None for one that is gone.

        One that can't be read (a newer version wrote it, or it is damaged) is left out.
        """
        ids = list(job_ids)
        commands = [("HMGET", keys.job(job_id), *HEAD_FIELDS) for job_id in ids]
        replies = pipeline(self.redis, commands, raise_on_error=False)
        found: dict[str, JobHead | None] = {}
        for job_id, reply in zip(ids, replies, strict=True):
            with leaving_out(_record(job_id)):
                found[job_id] = _head(job_id, reply)
        return found

    def sift(self, job_ids: Sequence[str]) -> dict[str, JobHead | None]:
        """The same; those that can't be read are put into quarantine. For the keeper."""
        found = self.heads(job_ids)
        for job_id in job_ids:
            if job_id not in found:
                self.quarantine(job_id)
        return found

    def quarantine(self, job_id: str) -> bool:
        """Put a record that can't be read out of the way, and one of a failed job in its place, which says so.

        One that a newer version has written is left to workers that know it. Returns whether it was done.
        """
        raws = pipeline(self.redis, [("HGETALL", keys.job(job_id))], raise_on_error=False)
        raw = raws[0] if isinstance(raws[0], dict) else {}
        if is_newer(raw):
            return False
        error = {"reason": Unreadable.reason, "message": "What Redis held of this job was damaged, so it was given up."}
        event = Event(0, {"type": EventType.FAILED.value, "c": new_claim_id(), "error": error}).encoded
        defaults = {"kind": "chat", "model": "unknown", "key_id": "unknown", "created_at": str(self.now_ms())}
        kept = {**defaults, **salvaged(raw)}
        kept |= {"request": _salvaged_request(kept["kind"], raw), "v": str(RECORD_VERSION)}
        kept |= {"error": dumps(error), "ttl_ms": str(DAMAGED_MS)}
        for name in ("state", "seq", "finished_at", "owner", "claim"):
            kept.pop(name, None)
        fields = [part for pair in kept.items() for part in pair]
        names = [*keys.of_job(job_id), keys.damaged(job_id)]
        done, seq, watch = self.scripts.run("quarantine", names, DAMAGED_MS, DAMAGED_MS, event, *fields)
        if not done:
            return False
        log.error("job %s: its record could not be read, and lies in %s now", job_id, keys.damaged(job_id))
        self.publish({hub: [(job_id, int(seq), [event])] for hub in str(watch).split(",") if hub})
        with leaving_out(_record(job_id)):
            if head := self.heads([job_id])[job_id]:
                self.settle(head)
        return True

    def owners(self, job_ids: Iterable[str]) -> dict[str, str]:
        """Who holds each of these jobs, in one round trip; empty for nobody."""
        ids = list(job_ids)
        replies = pipeline(self.redis, [("HGET", keys.job(job_id), "owner") for job_id in ids])
        return {job_id: reply or "" for job_id, reply in zip(ids, replies, strict=True)}

    def journal(self, job_id: str, *, after: int = 0, count: int | None = None) -> list[Event]:
        """Entries whose seq is above `after`. Raises: Unreadable."""
        with reading(f"The journal of job {job_id}"):
            entries = cast(
                "list[tuple[str, dict[str, str] | None]]",
                self.redis.xrange(keys.events(job_id), min=f"{after + 1}-0", count=count),
            )
            return [Event.parse(entry_id, fields) for entry_id, fields in entries]

    def vectors(self, job_id: str) -> bytes:
        """The vectors of an embedding job, float32 behind float32; empty if there are none. Raises: Unreadable."""
        with reading(f"What job {job_id} has made"):
            return cast(bytes, self.redis.execute_command("GET", keys.vectors(job_id), **{NEVER_DECODE: []}) or b"")

    def with_long_journals(self, job_ids: Sequence[str], min_entries: int) -> list[str]:
        """Those of the jobs whose journal has that many entries at least."""
        pipe = self.redis.pipeline(transaction=False)
        for job_id in job_ids:
            pipe.xlen(keys.events(job_id))
        lengths = zip(job_ids, pipe.execute(raise_on_error=False), strict=True)
        return [job_id for job_id, length in lengths if isinstance(length, int) and length >= min_entries]

    def replace_journal(self, job_id: str, events: Sequence[Event]) -> bool:
        """Put these events in the place of an ended job's journal. False if it is another one by now."""
        entries = [part for event in events for part in (str(event.seq), event.encoded)]
        return bool(self._run("compact", job_id, str(events[-1].seq), *entries))

    def now_ms(self) -> int:
        """Redis' clock, the only one that leases use."""
        seconds, micros = self.redis.time()
        return int(seconds) * 1000 + int(micros) // 1000

    def publish(self, hubs: Mapping[str, Sequence[tuple[str, int, Sequence[str]]]]) -> None:
        """Send events to watching processes: for each hub, (job id, first seq, events)."""
        bodies = {
            hub_id: ",".join([f"[{dumps(job_id)},{first},[{','.join(events)}]]" for job_id, first, events in items])
            for hub_id, items in hubs.items()
        }
        pipeline(self.redis, [("PUBLISH", keys.hub(hub_id), f"[{body}]") for hub_id, body in bodies.items()])

    def estimated_now_ms(self) -> int:
        """Redis' clock by this host's steady one. For the order of queues and for statistics, never for a lease."""
        now = time.monotonic()
        if now > self._clock_checked + CLOCK_CHECK_S:
            self._clock_offset_ms, self._clock_checked = self.now_ms() - now * 1000, now
        return int(now * 1000 + self._clock_offset_ms)

    def _read(self, job_ids: Sequence[str], *, raise_unreadable: bool) -> list[Job | None]:
        raws = pipeline(self.redis, [("HGETALL", keys.job(job_id)) for job_id in job_ids], raise_on_error=False)
        found: list[Job | None] = []
        for job_id, raw in zip(job_ids, raws, strict=True):
            job = None
            with reading(_record(job_id)) if raise_unreadable else leaving_out(_record(job_id)):
                job = _job(job_id, raw)
            found.append(job)
        return found

    def forget_gone(self, key_id: str, job_ids: Sequence[str]) -> int:
        """Take jobs whose records are gone out of what is known of their API key. Returns how many were not settled."""
        pipe = self.redis.pipeline(transaction=False)
        self.ledger.drop(pipe, key_id, job_ids)
        pipe.zrem(keys.owned(key_id), *job_ids)
        pipe.srem(keys.open_jobs(key_id), *job_ids)
        return int(self.scripts.execute(pipe)[-1])

    def _weigh(self, pipe: redis.client.Pipeline, job: Job) -> None:
        """Three replies, for `Load.from_reply`."""
        first, last = (BACKGROUND_SCORE, "+inf") if job.background else ("-inf", f"({BACKGROUND_SCORE}")
        pipe.zcount(keys.queued(job.runs_on), first, last)
        pipe.scard(keys.open_jobs(job.key_id))
        pipe.hget(keys.stored(job.key_id), "")

    def _settle(self, pipe: redis.client.Pipeline, job: JobHead, usage: Mapping[str, int]) -> None:
        self.ledger.settle(pipe, job, usage)
        self._track(pipe, job.id, job.runs_on, unsettled=keys.open_jobs(job.key_id))

    def _track(self, pipe: redis.client.Pipeline, job_id: str, model: str, *stale: str, unsettled: str = "") -> None:
        indexes = [keys.queued(name) for name in (model, *(name for name in stale if name != model))]
        names = [*keys.of_job(job_id), keys.RUNNING, keys.QUEUES, *indexes]
        self.scripts.add(pipe, "track", names, job_id, model, YOUNG_MS, unsettled)

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


def _head(job_id: str, reply: Any) -> JobHead | None:
    if isinstance(reply, Exception):
        raise reply
    raw = dict(zip(HEAD_FIELDS, reply, strict=True))
    return JobHead.parse(job_id, raw) if any(value is not None for value in reply) else None


def _salvaged_request(kind: str, raw: Mapping[str, str]) -> str:
    """The request of a record that can't be read as a whole; an empty one if it can't be read either."""
    text = raw.get("request") or ""
    with contextlib.suppress(ValueError):
        if text and not checks.request(kind, loads(text)):
            return text
    return dumps({"wanted": [], "replaced": []} if kind == DEPLOYMENT else {})
