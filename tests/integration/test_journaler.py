"""What a worker does with its jobs when Redis refuses, forgets or comes back, and when one of the jobs is odd."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping

import pytest
import redis

from gateway.jobs.events import EventType
from gateway.jobs.record import Cause, Job, JobState, new_claim_id, new_job_id
from gateway.jobs.store import JobStore
from gateway.queue.celery_app import make_celery
from gateway.settings import Settings
from gateway.store import keys
from workers.journal.claimed_job import ClaimedJob
from workers.journal.writer import Journaler


class Run(ClaimedJob):
    """Writes what it is told to."""

    def usage(self) -> Mapping[str, int]:
        return {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}


@pytest.fixture
def store(redis_client: redis.Redis) -> JobStore:
    return JobStore(redis_client)


@pytest.fixture
def dropped() -> list[ClaimedJob]:
    return []


@pytest.fixture
def journaler(settings: Settings, store: JobStore, dropped: list[ClaimedJob]) -> Journaler:
    return Journaler(settings=settings, store=store, celery=make_celery(settings), owner="w", on_drop=dropped.append)


def make(store: JobStore) -> Job:
    """A job that waits."""
    job = Job(new_job_id("chat"), JobState.QUEUED, "chat", "fake", "key", {"messages": []})
    return store.create(job, ttl_ms=60_000).job


@pytest.fixture
def hold(store: JobStore, journaler: Journaler) -> Callable[[], Run]:
    """Makes a job, claims it, and lets the journaler hold it."""

    def claim() -> Run:
        job = store.claim(make(store).id, model="fake", owner="w", claim=new_claim_id())
        assert job is not None
        run = Run(job)
        run.begin({"model": "fake"})
        journaler.hold(run)
        return run

    return claim


def say(journaler: Journaler, run: Run, text: str) -> None:
    run.extend(0, text=text)
    journaler.touch(run)


def text(store: JobStore, run: Run) -> str:
    return "".join(event.body.get("text", "") for event in store.journals.read(run.id))


def state(store: JobStore, run: Run) -> JobState:
    found = store.read(run.id)
    assert found is not None
    return found.state


def full(store: JobStore, *, yes: bool) -> None:
    """Let Redis refuse writes for want of memory, or take them again."""
    store.redis.config_set("maxmemory", store.redis.info("memory")["used_memory"] // 2 if yes else 0)


def test_what_redis_can_not_take_now_is_written_later(
    store: JobStore, journaler: Journaler, hold: Callable[[], Run]
) -> None:
    runs = [hold() for _ in range(3)]
    journaler.flush()
    try:
        full(store, yes=True)
        for run in runs:
            say(journaler, run, "a")
        journaler.tend(lambda: None)
        runs[0].done()
        journaler.touch(runs[0])
        journaler.tend(lambda: store.progress(run.job for run in runs))
    finally:
        full(store, yes=False)
    assert [text(store, run) for run in runs] == ["", "", ""]
    journaler.tend(lambda: None)
    assert [text(store, run) for run in runs] == ["a", "a", "a"]
    assert [state(store, run) for run in runs] == [JobState.DONE, JobState.RUNNING, JobState.RUNNING]


def test_a_job_whose_events_are_never_taken_ends_alone(
    store: JobStore, journaler: Journaler, hold: Callable[[], Run], dropped: list[ClaimedJob]
) -> None:
    odd, good = hold(), hold()
    journaler.flush()
    store.redis.delete(keys.events(odd.id))
    store.redis.set(keys.events(odd.id), "no stream")
    for run in (odd, good):
        say(journaler, run, "a")
    journaler.flush()
    assert text(store, good) == "a"
    assert dropped == [odd]
    assert odd.finished.is_set()
    assert journaler.held == [good]


@pytest.mark.parametrize("value", ["\ud83d", {1, 2}, object()])
def test_a_job_that_can_not_be_written_fails_alone(
    store: JobStore, journaler: Journaler, hold: Callable[[], Run], value: object
) -> None:
    odd, good = hold(), hold()
    journaler.flush()
    say(journaler, good, "a")
    odd.extend(0, text="fine so far", lp=[("a", value)])
    journaler.touch(odd)
    journaler.flush()
    assert text(store, good) == "a"
    found = store.read(odd.id)
    assert found is not None
    assert (found.state, found.error["reason"]) == (JobState.FAILED, "internal_error")
    assert sum(event.type.terminal for event in store.journals.read(odd.id)) == 1


def test_what_json_lacks_is_mended_on_its_way(store: JobStore, journaler: Journaler, hold: Callable[[], Run]) -> None:
    odd, good = hold(), hold()
    odd.extend(0, text="\ud83d", lp=[("\udcff", math.nan), ("\ufdd0\0", -math.inf), ("a", 2**70)])
    odd.extend(0, text="\ude00\udc00")
    say(journaler, good, "a")
    journaler.touch(odd)
    journaler.flush()
    assert (text(store, odd), text(store, good)) == ("\U0001f600\ufffd", "a")
    assert store.journals.read(odd.id)[-1].body["lp"] == [["\ufffd", -9999.0], ["\ufdd0\0", -9999.0], ["a", 2.0**70]]
    assert state(store, odd) is JobState.RUNNING


def test_what_goes_wrong_behind_the_verdict_ends_one_job(
    store: JobStore, journaler: Journaler, hold: Callable[[], Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    odd, good = hold(), hold()
    monkeypatch.setattr(odd, "confirm", lambda append: 1 / 0)
    journaler.flush()
    say(journaler, good, "a")
    journaler.flush()
    assert text(store, good) == "a"
    assert state(store, odd) is JobState.FAILED


@pytest.mark.parametrize("claims", [True, False], ids=["claimed", "queued"])
@pytest.mark.parametrize("error", [ZeroDivisionError, MemoryError])
def test_what_is_raised_before_a_job_is_held_ends_that_job_alone(
    store: JobStore, journaler: Journaler, hold: Callable[[], Run], claims: bool, error: type[Exception]
) -> None:
    good, odd = hold(), make(store)
    with journaler.claiming(odd.id) as mine, journaler.ending(odd.id):
        assert mine
        if claims:
            assert store.claim(odd.id, model="fake", owner="w", claim=new_claim_id())
        raise error("as prepare may")
    ended = store.read(odd.id)
    assert ended is not None
    assert (ended.state, ended.error["reason"]) == (JobState.FAILED, "internal_error")
    assert error.__name__ in ended.error["message"]
    assert [event.type for event in store.journals.read(odd.id)] == [EventType.FAILED]
    say(journaler, good, "a")
    journaler.tend(lambda: None)
    assert (journaler.held, text(store, good), state(store, good)) == ([good], "a", JobState.RUNNING)


def test_a_job_of_another_worker_is_left_to_it_whatever_is_raised_here(store: JobStore, journaler: Journaler) -> None:
    job = make(store)
    with journaler.claiming(job.id), journaler.ending(job.id):
        assert store.claim(job.id, model="fake", owner="another", claim=new_claim_id())
        raise ZeroDivisionError
    found = store.read(job.id)
    assert found is not None
    assert (found.state, found.owner) == (JobState.RUNNING, "another")


def test_a_claim_that_waits_for_redis_is_given_back(store: JobStore, journaler: Journaler) -> None:
    job = make(store)
    with pytest.raises(redis.exceptions.ConnectionError), journaler.claiming(job.id), journaler.ending(job.id):
        assert store.claim(job.id, model="fake", owner="w", claim=new_claim_id())
        raise redis.exceptions.ConnectionError
    journaler.tend(lambda: None)
    found = store.read(job.id)
    assert found is not None
    assert (found.state, found.losses, found.crashes) == (JobState.QUEUED, 1, 0)


def test_a_record_that_is_gone_is_made_anew(store: JobStore, journaler: Journaler, hold: Callable[[], Run]) -> None:
    speaks, quiet = hold(), hold()
    for run in (speaks, quiet):
        say(journaler, run, "a")
    journaler.tend(lambda: None)
    for run in (speaks, quiet):
        store.redis.delete(*keys.of_job(run.id))
    say(journaler, speaks, "b")
    journaler._next_beat = 0
    for _ in range(3):
        journaler.tend(lambda: None)
    assert [text(store, run) for run in (speaks, quiet)] == ["ab", "a"]
    assert [state(store, run) for run in (speaks, quiet)] == [JobState.RUNNING] * 2
    assert [event.seq for event in store.journals.read(speaks.id)] == [1, 2, 3]
    found = store.read(speaks.id)
    assert found is not None
    assert found.created_at == speaks.job.created_at


def test_another_request_with_the_same_idempotency_key_is_not_taken_for_the_one_that_is_gone(
    store: JobStore, journaler: Journaler, hold: Callable[[], Run], dropped: list[ClaimedJob]
) -> None:
    run = hold()
    say(journaler, run, "a")
    journaler.tend(lambda: None)
    store.redis.delete(*keys.of_job(run.id))
    another = Job(run.id, JobState.QUEUED, "chat", "fake", "key", {"messages": [], "n": 2}, fingerprint="another")
    store.create(another, ttl_ms=60_000)
    journaler.audit._redis_run_id = "the process before"
    say(journaler, run, "b")
    for _ in range(3):
        journaler.tend(lambda: None)
    assert state(store, run) is JobState.QUEUED
    assert store.journals.read(run.id) == []
    assert dropped == [run]


def test_redis_fails_in_the_middle_of_the_resending(
    store: JobStore, journaler: Journaler, hold: Callable[[], Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was not sent again then is sent the next time, also what had ended."""
    runs = [hold() for _ in range(3)]
    for run in runs:
        say(journaler, run, "a")
    runs[0].done()
    journaler.touch(runs[0])
    journaler.tend(lambda: None)
    assert journaler.held == runs[1:]
    store.redis.delete(*(key for run in runs for key in keys.of_job(run.id)))
    journaler.audit._redis_run_id = "another process"
    restore, calls = store.restore, []

    def breaks(job: Job, *, owner: str) -> None:
        calls.append(job.id)
        if len(calls) == 2:
            raise redis.exceptions.ConnectionError("again")
        restore(job, owner=owner)

    monkeypatch.setattr(store, "restore", breaks)
    for _ in range(4):
        journaler._next_beat = 0
        journaler.tend(lambda: None)
    assert [text(store, run) for run in runs] == ["a", "a", "a"]
    assert [state(store, run) for run in runs] == [JobState.DONE, JobState.RUNNING, JobState.RUNNING]


def test_the_reason_of_a_cancel_reaches_the_journal(
    store: JobStore, journaler: Journaler, hold: Callable[[], Run]
) -> None:
    run = hold()
    journaler.flush()
    body = {"type": EventType.CANCELLED.value, "reason": "client_gone"}
    assert store.end(run.job, JobState.CANCELLED, body)[0] == "cancelling"
    say(journaler, run, "a")
    journaler.flush()
    journaler.flush()
    last = store.journals.read(run.id)[-1]
    assert (last.type, last.body["reason"]) == (EventType.CANCELLED, "client_gone")


def test_the_record_counts_the_tokens_of_the_claim(
    store: JobStore, journaler: Journaler, hold: Callable[[], Run]
) -> None:
    run = hold()
    for ids in ([1, 2, 3], [4, 5]):
        run.extend(0, ids=ids, text="x")
        journaler.touch(run)
        journaler.flush()
        time.sleep(0.001)
    found = store.read(run.id)
    assert found is not None
    assert found.claim_tokens == 5


def test_a_job_that_has_ended_is_not_given_back_though_redis_has_lost_its_end(
    store: JobStore, journaler: Journaler, hold: Callable[[], Run]
) -> None:
    ends, runs = hold(), hold()
    ends.done()
    journaler.touch(ends)
    journaler.flush()
    store.redis.hset(keys.job(ends.id), mapping={"state": "running", "claim": ends.job.claim, "owner": "w"})
    journaler.release([ends, runs], Cause.CRASHED)
    assert [state(store, run) for run in (ends, runs)] == [JobState.RUNNING, JobState.QUEUED]


def test_what_ends_while_all_is_sent_again_is_kept_as_well(
    store: JobStore, journaler: Journaler, hold: Callable[[], Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread sends again while the emitter confirms an end. Redis then forgets that as well."""
    ends, later = hold(), hold()
    journaler.tend(lambda: None)
    restore = store.restore

    def while_it_is_restored(job: Job, *, owner: str) -> None:
        restore(job, owner=owner)
        if job.id == later.id:
            ends.done()
            journaler.touch(ends)
            emitter = threading.Thread(target=journaler.flush)
            emitter.start()
            emitter.join()

    monkeypatch.setattr(store, "restore", while_it_is_restored)
    journaler.audit._redis_run_id = "the process before"
    journaler.release([], Cause.GIVEN_BACK)
    assert journaler.held == [later]
    store.redis.delete(*keys.of_job(ends.id))
    journaler.audit._redis_run_id = "the process before"
    for _ in range(2):
        journaler._next_beat = 0
        journaler.tend(lambda: None)
    assert state(store, ends) is JobState.DONE
