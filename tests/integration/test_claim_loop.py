"""How a worker gets a job: what it may take, and what ends before it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
import redis

from gateway.errors import InvalidRequest, RateLimited
from gateway.jobs.control import TOO_LATE, cancel
from gateway.jobs.record import Cause, Job, JobHead, JobState, new_claim_id, new_job_id
from gateway.jobs.store import JobStore
from gateway.queue.celery_app import make_celery
from gateway.settings import Settings
from gateway.store import keys
from workers.journal.claim_loop import ClaimLoop
from workers.journal.claimed_job import ClaimedJob
from workers.journal.quarantine import MAX_LOSSES, PoisonRule
from workers.journal.writer import Journaler

RULE = PoisonRule("The worker", 3, lost="gone_too_often", more={"remedy": "Send another."})


class Run(ClaimedJob):
    """Does nothing."""

    def usage(self) -> Mapping[str, int]:
        return {}


@pytest.fixture
def store(redis_client: redis.Redis) -> JobStore:
    return JobStore(redis_client)


@pytest.fixture
def journaler(settings: Settings, store: JobStore) -> Journaler:
    return Journaler(settings=settings, store=store, celery=make_celery(settings), owner="w", on_drop=lambda job: None)


@pytest.fixture
def claims(journaler: Journaler) -> ClaimLoop:
    return ClaimLoop(journaler, RULE)


def make(store: JobStore, **changes: Any) -> Job:
    """A job that waits."""
    job = Job(new_job_id("chat"), JobState.QUEUED, "chat", "fake", "key", {"messages": []})
    return store.create(replace(job, **changes), ttl_ms=60_000).job


def take(claims: ClaimLoop, job: Job) -> Run | None:
    """Claim it, whatever it is, and prepare nothing."""
    return claims.take(job.id, lambda waiting: claims.claim(waiting.id, Run, model="fake"))


def found(store: JobStore, job: Job) -> Job:
    record = store.read(job.id)
    assert record is not None
    return record


def test_a_job_that_waits_is_held_under_a_claim(store: JobStore, journaler: Journaler, claims: ClaimLoop) -> None:
    job = make(store)
    run = take(claims, job)
    assert run is not None
    assert journaler.held == [run]
    record = found(store, job)
    assert (record.state, record.owner, record.claim) == (JobState.RUNNING, "w", run.job.claim)
    assert take(claims, job) is None, "this worker has it already"


def sent_bytes(store: JobStore) -> int:
    """What Redis has sent so far, to all its clients."""
    return int(store.redis.info("stats")["total_net_output_bytes"])


def test_a_long_request_leaves_redis_once(store: JobStore, claims: ClaimLoop) -> None:
    """Given a request of 2 MiB, then what looks at the job before it claims it gets the rest of the record only."""
    size = 2 * 1024 * 1024
    job = make(store, request={"messages": [{"role": "user", "content": "x" * size}]}, slots=3, crashes=1)
    seen: list[JobHead] = []

    def admit(waiting: JobHead) -> Run | None:
        seen.append(waiting)
        return claims.claim(waiting.id, Run, model="fake")

    before = sent_bytes(store)
    run = claims.take(job.id, admit)
    assert size < sent_bytes(store) - before < 1.1 * size
    assert run is not None
    assert len(run.job.request["messages"][0]["content"]) == size
    assert [(head.id, head.runs_on, head.slots, head.crashes) for head in seen] == [(job.id, "fake", 3, 1)]


def test_what_is_taken_ended_gone_or_left_is_not_claimed(
    store: JobStore, journaler: Journaler, claims: ClaimLoop
) -> None:
    taken, ended, left, elsewhere = (make(store) for _ in range(4))
    store.claim(taken.id, model="fake", owner="another", claim=new_claim_id())
    cancel(store, ended, reason="client_request")
    gone = replace(make(store), id=new_job_id("chat"))
    assert [take(claims, job) for job in (taken, ended, gone)] == [None] * 3
    assert claims.take(left.id, lambda waiting: None) is None
    assert claims.take(elsewhere.id, lambda job: claims.claim(job.id, Run, model="other")) is None
    assert journaler.held == []
    assert found(store, taken).owner == "another"
    assert [found(store, job).state for job in (left, elsewhere)] == [JobState.QUEUED] * 2


@pytest.mark.parametrize(
    ("counts", "reason"), [({"crashes": 3}, "worker_crashed"), ({"losses": MAX_LOSSES}, "gone_too_often")]
)
def test_a_job_that_ends_whoever_runs_it_is_given_up(
    store: JobStore, journaler: Journaler, claims: ClaimLoop, counts: dict[str, int], reason: str
) -> None:
    job = make(store, **counts)
    assert take(claims, job) is None
    record = found(store, job)
    assert (record.state, record.error["reason"], record.error["remedy"]) == (JobState.FAILED, reason, "Send another.")
    assert journaler.held == []


@pytest.mark.parametrize("keeps", [False, True])
def test_a_job_that_is_to_be_cancelled_ends_unless_there_is_something_to_roll_back(
    store: JobStore, journaler: Journaler, keeps: bool
) -> None:
    """Given a job that was cancelled while its worker died, When it is claimed, Then it ends, or is held."""
    job = make(store)
    claimed = store.claim(job.id, model="fake", owner="another", claim=new_claim_id())
    assert claimed is not None
    assert cancel(store, claimed, reason="client_request") == "cancelling"
    store.release(claimed, Cause.LOST)
    run = take(ClaimLoop(journaler, RULE, keeps_cancelled=keeps), job)
    assert (run is not None) is keeps
    assert found(store, job).state is (JobState.RUNNING if keeps else JobState.CANCELLED)


@pytest.mark.parametrize("error", [InvalidRequest("So not."), RateLimited("Not now.", retry_after_s=7)])
def test_a_job_that_can_not_be_prepared_fails_with_the_errors_reason(
    store: JobStore, journaler: Journaler, claims: ClaimLoop, error: InvalidRequest | RateLimited
) -> None:
    job = make(store)

    def prepare(claimed: Job) -> Run:
        raise error

    assert claims.take(job.id, lambda waiting: claims.claim(waiting.id, prepare, model="fake")) is None
    record = found(store, job)
    assert (record.error["reason"], record.error["message"]) == (error.reason, error.message)
    assert record.error.get("retry_after_s") == (error.retry_after_s or None)


def reads(store: JobStore) -> int:
    """How often Redis has read from a client so far: once for each pipeline, this call included."""
    return int(store.redis.info("stats")["total_reads_processed"])


def test_jobs_that_were_offered_are_claimed_in_one_round_trip(
    store: JobStore, journaler: Journaler, claims: ClaimLoop
) -> None:
    jobs = [make(store) for _ in range(8)]
    journaler.store.scripts.load()
    before = reads(store)
    runs = claims.take_new([job.id for job in jobs], Run, model="fake")
    assert reads(store) == before + 2, "one, and the one that asks"
    assert journaler.held == runs
    assert [run.id for run in runs] == [job.id for job in jobs]
    assert len({run.job.claim for run in runs}) == 8
    assert all(found(store, job).owner == "w" for job in jobs)
    assert store.redis.zcard(keys.queued("fake")) == 0
    assert store.redis.zcard(keys.RUNNING) == 8
    assert claims.take_new([job.id for job in jobs], Run, model="fake") == [], "this worker has them already"


def test_what_is_wrong_with_one_of_the_offered_jobs_concerns_no_other(
    store: JobStore, journaler: Journaler, claims: ClaimLoop
) -> None:
    """Among jobs that are claimed together each ends, or is left, as it would be alone."""
    names = ("good", "damaged", "other type", "taken", "cancelled", "gone", "too late", "refused", "crashes", "last")
    jobs = {name: make(store, deadline=int(name == "too late")) for name in names}
    store.redis.hset(keys.job(jobs["damaged"].id), "request", "{")
    store.redis.delete(keys.job(jobs["other type"].id), keys.job(jobs["gone"].id))
    store.redis.set(keys.job(jobs["other type"].id), "x")
    store.claim(jobs["taken"].id, model="fake", owner="another", claim="c")
    cancel(store, jobs["cancelled"], reason="client_request")

    def prepare(job: Job) -> Run:
        if job.id == jobs["refused"].id:
            raise InvalidRequest("So not.")
        if job.id == jobs["crashes"].id:
            raise ZeroDivisionError
        return Run(job)

    runs = claims.take_new([job.id for job in jobs.values()], prepare, model="fake")
    assert [run.id for run in runs] == [jobs["good"].id, jobs["last"].id]
    assert journaler.held == runs
    records = {name: found(store, job) for name, job in jobs.items() if name != "gone"}
    assert {name: record.state.value for name, record in records.items()} == {
        **dict.fromkeys(("damaged", "other type", "too late", "refused", "crashes"), "failed"),
        **dict.fromkeys(("good", "taken", "last"), "running"),
        "cancelled": "cancelled",
    }
    assert records["taken"].owner == "another"
    reasons = {name: record.error["reason"] for name, record in records.items() if record.error}
    assert reasons == {
        **dict.fromkeys(("damaged", "other type"), "unreadable"),
        "too late": TOO_LATE,
        "refused": "invalid_request",
        "crashes": "internal_error",
    }
    assert journaler.known() == {run.id for run in runs}


@pytest.mark.parametrize("lost", [1, 3], ids=["one", "all"])
def test_what_redis_refuses_for_now_is_left_in_the_queue(
    store: JobStore, journaler: Journaler, claims: ClaimLoop, monkeypatch: pytest.MonkeyPatch, lost: int
) -> None:
    """Redis is full when it comes to some of the claims."""
    jobs = [make(store) for _ in range(3)]
    run_all, full = journaler.store.scripts.execute_commands, ("EVAL", "return redis.error_reply('OOM full')", 0)

    def with_errors(commands: Sequence[tuple[str | int | bytes, ...]], **options: bool) -> list[Any]:
        return run_all([full] * lost + list(commands[lost:]), **options)

    monkeypatch.setattr(journaler.store.scripts, "execute_commands", with_errors)
    runs = claims.take_new([job.id for job in jobs], Run, model="fake")
    monkeypatch.undo()
    assert [run.id for run in runs] == [job.id for job in jobs[lost:]]
    assert [found(store, job).state for job in jobs[:lost]] == [JobState.QUEUED] * lost
    assert journaler.known() == {run.id for run in runs}, "another try may follow"


def test_a_record_that_can_not_be_read_goes_into_quarantine(store: JobStore, claims: ClaimLoop) -> None:
    job = make(store)
    store.redis.hset(keys.job(job.id), "request", "{")
    assert take(claims, job) is None
    record = found(store, job)
    assert (record.state, record.error["reason"]) == (JobState.FAILED, "unreadable")
