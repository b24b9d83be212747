"""The keeper over a real Redis: what it finds, what it leaves alone, and what it does not let itself be kept from."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest
import redis

from gateway.cluster.desired import Desired, ReplicaSpec
from gateway.cluster.registry import ProviderWorker, Registry
from gateway.cluster.trust import Trust
from gateway.errors import Unreadable
from gateway.jobs.control import cancel
from gateway.jobs.events import Append
from gateway.jobs.record import Job, JobState, new_claim_id, new_job_id
from gateway.jobs.store import Ended, JobStore
from gateway.models.catalog import load_catalog
from gateway.process.locks import hold_lock
from gateway.queue.celery_app import make_celery
from gateway.queue.names import GENERATE, lists, model_queue, queue_of
from gateway.scheduling.lines import Lines, Wish
from gateway.settings import Settings
from gateway.store import keys
from gateway.store.codec import dumps, loads
from tests.stack import eventually
from workers.keeper import sweeps
from workers.keeper.keeper import Keeper

#: Of a provider that any worker may serve, so that nobody calls it hopeless.
MODEL = "elsewhere/model"
#: A device, whose agent runs deployments.
DEVICE = "@n.cpu0"
PROVIDERS = {"oa": {"protocol": "openai", "base_url": "http://127.0.0.1:9/v1", "api_key_env": "KEEPER_KEY"}}
MODELS = {"oa-model": {"capabilities": ["chat"], "upstream": "gpt-4", "provider": "oa"}}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """With a remote model."""
    return replace(settings, providers_json=dumps(PROVIDERS), models_json=dumps(MODELS))


@pytest.fixture
def store(redis_client: redis.Redis) -> JobStore:
    return JobStore(redis_client)


@pytest.fixture
def alive(redis_client: redis.Redis) -> str:
    """An owner that has a heartbeat."""
    Registry(redis_client).beat_provider(ProviderWorker("alive", "n", 1), lease_s=60)
    return "alive"


def make_job(store: JobStore, *, attended_ms: int = -1, model: str = MODEL, **fields: object) -> Job:
    job = Job(new_job_id("chat"), JobState.QUEUED, "chat", model, "key", {"messages": []}, **fields)  # type: ignore[arg-type]
    return store.create(job, ttl_ms=60_000, attended_ms=attended_ms).job


def claimed(store: JobStore, owner: str, **fields: object) -> Job:
    job = store.claim(make_job(store, **fields).id, model=MODEL, owner=owner, claim=new_claim_id())
    assert job is not None
    return job


def indexes(store: JobStore, job: Job, model: str = MODEL) -> set[str]:
    """Where a job is found: `running`, `queued`."""
    found = {"running": keys.RUNNING, "queued": keys.queued(model)}
    return {name for name, key in found.items() if store.redis.zscore(key, job.id) is not None}


def messages(store: JobStore, queue_key: str = MODEL) -> str:
    """All wake-up messages for a model or a device, as text."""
    raws = [raw for name in lists(queue_of(queue_key)) for raw in store.redis.lrange(name, 0, -1)]
    return " ".join(loads(raw)["headers"]["argsrepr"] for raw in raws)


def state(store: JobStore, job: Job) -> JobState:
    found = store.read(job.id)
    assert found is not None
    return found.state


def fresh_keeper(settings: Settings, store: JobStore, clock: Callable[[], float] = time.monotonic) -> Keeper:
    return Keeper(
        settings=settings,
        store=store,
        registry=Registry(store.redis),
        celery=make_celery(settings),
        catalog=load_catalog(settings),
        trust=Trust(clock),
    )


# -- indexes


def test_a_job_moves_between_the_indexes(store: JobStore, alive: str) -> None:
    job = make_job(store)
    assert indexes(store, job) == {"queued"}
    held = store.claim(job.id, model=MODEL, owner=alive, claim="c")
    assert held is not None
    assert indexes(store, job) == {"running"}
    assert store.release(held, sweeps.Cause.GIVEN_BACK)
    assert indexes(store, job) == {"queued"}


@pytest.mark.parametrize("wrong", [[], ["running"], ["queued"], ["running", "queued"]])
@pytest.mark.parametrize("runs", [True, False])
def test_whatever_index_a_job_is_found_in_it_comes_to_the_right_one(
    store: JobStore, keeper: Keeper, alive: str, wrong: list[str], runs: bool
) -> None:
    job = claimed(store, alive) if runs else make_job(store)
    store.redis.delete(keys.RUNNING, keys.queued(MODEL))
    for name in wrong:
        store.redis.zadd({"running": keys.RUNNING, "queued": keys.queued(MODEL)}[name], {job.id: 1})
    keeper.round()
    keeper.round()
    assert indexes(store, job) == {"running" if runs else "queued"}


def test_a_job_that_was_handed_over_leaves_the_queue_of_the_other_model(store: JobStore, keeper: Keeper) -> None:
    job = make_job(store, route="another/model")
    store.redis.zadd(keys.queued(MODEL), {job.id: 1})
    store.redis.sadd(keys.QUEUES, MODEL)
    keeper.round()
    assert indexes(store, job) == set()
    assert indexes(store, job, "another/model") == {"queued"}


def test_a_young_entry_without_a_record_stays_and_an_old_one_goes(store: JobStore, keeper: Keeper) -> None:
    now = store.clock.now_ms()
    young, old = new_job_id("chat"), new_job_id("chat")
    background = new_job_id("chat")
    store.redis.sadd(keys.QUEUES, MODEL)
    for key in (keys.queued(MODEL), keys.RUNNING):
        store.redis.zadd(key, {young: now - 5_000, old: now - 120_000, background: 10**13 + now})
    keeper.round()
    assert set(store.redis.zrange(keys.queued(MODEL), 0, -1)) == {young, background}
    assert set(store.redis.zrange(keys.RUNNING, 0, -1)) == {young, background}


def test_a_late_change_of_an_index_does_no_harm(store: JobStore, alive: str) -> None:
    """A worker that was stopped between its claim and its index, while the job went on to another."""
    job = make_job(store)
    first = store.claim(job.id, model=MODEL, owner="zombie", claim="c1")
    assert first is not None
    store.release(first, sweeps.Cause.LOST)
    store.indexes.track(job.id, MODEL)
    assert indexes(store, job) == {"queued"}
    store.claim(job.id, model=MODEL, owner=alive, claim="c2")
    assert not store.release(first, sweeps.Cause.LOST)
    assert indexes(store, job) == {"running"}


def test_an_ended_job_is_settled_before_it_leaves(store: JobStore, keeper: Keeper, alive: str) -> None:
    job = claimed(store, alive)
    done = f'{{"type":"done","c":"{job.claim}"}}'
    store.journals.append([Append(job.id, job.claim, 1, [done], JobState.DONE)])
    assert store.claim(job.id, model=MODEL, owner=alive, claim="late") is None
    assert indexes(store, job) == {"running"}
    keeper.round()
    assert indexes(store, job) == set()
    assert not store.redis.scard(keys.open_jobs("key"))


# -- wake-up messages


def waiting(store: JobStore, for_s: float, queue_key: str = DEVICE) -> Job:
    """A job that waits for so long already."""
    job = make_job(store, model=queue_key)
    store.redis.hset(keys.job(job.id), "queued_at", int(store.clock.now_ms() - 1000 * for_s))
    return job


def test_the_first_in_line_is_woken_up_again_whatever_lies_in_the_list(store: JobStore, keeper: Keeper) -> None:
    job = waiting(store, sweeps.RESEND_S + 1)
    for _ in range(50):
        store.redis.lpush(queue_of(DEVICE), '{"headers": {"argsrepr": "of another job"}}')
    keeper.round()
    assert job.id in messages(store, DEVICE)


def test_lost_wake_up_messages_are_sent_again_at_once_but_not_each_round(store: JobStore, keeper: Keeper) -> None:
    jobs = [waiting(store, sweeps.RESEND_S + 1) for _ in range(20)]
    for _ in range(3):
        keeper.round()
    assert all(messages(store, DEVICE).count(job.id) == 1 for job in jobs)


@pytest.mark.parametrize("model", ["fake", "oa-model"])
def test_jobs_of_a_model_without_a_worker_stand_in_line_and_no_message_is_sent(
    store: JobStore, keeper: Keeper, model: str
) -> None:
    """A worker that comes asks for them in their order; messages would pass it over."""
    made = [waiting(store, sweeps.RESEND_S + 1, model) for _ in range(20)]
    store.redis.delete(*store.redis.keys(f"{keys.lines(model)}*"))
    keeper.round()
    offers = Lines(store.redis, store.scripts).next_jobs(model, Wish("replica.one", total=64, free=64))
    assert {offer.job_id for offer in offers} == {job.id for job in made}
    assert messages(store, model) == ""


def test_a_worker_of_an_older_version_is_still_told_of_each_job(store: JobStore, keeper: Keeper) -> None:
    keeper.registry.beat_provider(ProviderWorker("older", "n", 1, credentials=("oa",)), lease_s=60)
    job = waiting(store, sweeps.RESEND_S + 1, "oa-model")
    keeper.round()
    assert job.id in messages(store, "oa-model")


def test_who_waits_for_a_moment_is_not_woken_up_again(store: JobStore, keeper: Keeper) -> None:
    waiting(store, 0)
    keeper.round()
    assert messages(store, DEVICE) == ""


def test_a_backlog_is_looked_at_in_slices(
    store: JobStore, keeper: Keeper, alive: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeps, "HEAD", 5)
    monkeypatch.setattr(sweeps, "SLICE", 10)
    jobs = [make_job(store, attended_ms=60_000) for _ in range(40)]
    store.redis.hset(keys.job(jobs[-1].id), "attended_until", 1)
    dead = claimed(store, "nobody")
    keeper.round()
    assert state(store, jobs[-1]) is JobState.QUEUED, "not its turn yet"
    keeper.round()
    assert state(store, dead) is JobState.QUEUED, "the running jobs are looked at each time"
    for _ in range(4):
        keeper.round()
    assert state(store, jobs[-1]) is JobState.CANCELLED


def test_a_waiting_job_that_was_cancelled_while_it_ran_ends(store: JobStore, keeper: Keeper, alive: str) -> None:
    job = claimed(store, alive)
    assert cancel(store, job, reason="key_revoked") == "cancelling"
    store.release(job, sweeps.Cause.GIVEN_BACK)
    keeper.round()
    assert state(store, job) is JobState.CANCELLED
    assert store.journals.read(job.id)[-1].body["reason"] == "key_revoked"


# -- judgements


def test_a_stall_is_no_crash(settings: Settings, store: JobStore, keeper: Keeper, alive: str) -> None:
    job = claimed(store, alive)
    store.redis.hset(keys.job(job.id), "progress_at", store.clock.now_ms() - 1_000 * int(settings.stall_s + 1))
    keeper.round()
    found = store.read(job.id)
    assert found is not None
    assert (found.state, found.crashes, found.losses) == (JobState.QUEUED, 0, 1)


def test_a_free_lock_shows_that_a_worker_is_dead(settings: Settings, store: JobStore) -> None:
    settings = replace(settings, data_dir=settings.data_dir / "locks")
    jobs = {}
    for name in ("dead", "living"):
        Registry(store.redis).beat_provider(ProviderWorker(name, "n", 1), lease_s=60)
        jobs[name] = claimed(store, name)
        handle = hold_lock(settings.data_dir, f"provider.{name}", name)
        assert handle is not None
        if name == "dead":
            os.close(handle)
    fresh_keeper(settings, store).round()  # one that trusts nothing that it is told as yet
    assert state(store, jobs["dead"]) is JobState.QUEUED
    assert state(store, jobs["living"]) is JobState.RUNNING


def test_nothing_is_judged_before_others_could_have_said_that_they_live(
    settings: Settings, store: JobStore, alive: str
) -> None:
    now = store.clock.now_ms()
    stalled, left, late = claimed(store, alive), claimed(store, alive, attended_ms=1), make_job(store)
    dead = claimed(store, "nobody")
    store.redis.hset(keys.job(stalled.id), "progress_at", now - 10_000_000)
    store.redis.hset(keys.job(late.id), "created_at", now - 10_000_000)
    steady = [1_000.0]
    keeper = fresh_keeper(settings, store, lambda: steady[0])
    for _ in range(3):
        keeper.round()
    jobs = (stalled, left, late, dead)
    expected = [JobState.RUNNING, JobState.RUNNING, JobState.QUEUED, JobState.RUNNING]
    assert [state(store, job) for job in jobs] == expected
    keeper.trust = keeper.running.trust = keeper.queues.trust = Trust(since=-math.inf)
    for _ in range(2):
        keeper.round()
    expected = [JobState.QUEUED, JobState.RUNNING, JobState.FAILED, JobState.QUEUED]
    assert [state(store, job) for job in jobs] == expected
    assert store.heads([left.id])[left.id].cancel  # type: ignore[union-attr]


def test_only_a_job_that_was_never_taken_is_told_that_the_queue_was_too_slow(
    settings: Settings, store: JobStore, keeper: Keeper
) -> None:
    begun, never = claimed(store, "nobody"), make_job(store)
    assert store.release(begun, sweeps.Cause.LOST)
    long_ago = store.clock.now_ms() - 1_000 * int(settings.queue_timeout_s + 1)
    store.redis.hset(keys.job(begun.id), "created_at", long_ago)
    keeper.round()
    assert state(store, begun) is JobState.QUEUED, "its wait counts from when it came back"
    for job in (begun, never):
        store.redis.hset(keys.job(job.id), mapping={"created_at": long_ago, "queued_at": long_ago})
    keeper.round()
    found = [store.read(job.id) for job in (begun, never)]
    assert [(job.state, job.error["reason"]) for job in found if job] == [
        (JobState.FAILED, "model_not_ready"),
        (JobState.FAILED, "queue_timeout"),
    ]
    assert found[0] is not None
    assert "begun 1 times" in found[0].error["message"]


@pytest.mark.parametrize("model", ["fake", "oa-model"])
def test_background_jobs_wait_while_a_worker_starts_again_and_fail_when_none_comes(
    settings: Settings, store: JobStore, keeper: Keeper, model: str
) -> None:
    """A long line is no reason to fail, nor that its worker has just died."""
    Desired(store.redis).put(ReplicaSpec("r", "fake", "test", "cpu0"))
    job = make_job(store, model=model, background=True)
    store.redis.hset(keys.job(job.id), "created_at", store.clock.now_ms() - 1_000 * int(settings.queue_timeout_s + 1))
    keeper.round()
    assert state(store, job) is JobState.QUEUED
    keeper._served_at[model] -= settings.queue_timeout_s
    keeper.round()
    assert state(store, job) is JobState.FAILED


def test_attendance_that_lies_far_in_the_future_is_put_right(
    settings: Settings, store: JobStore, keeper: Keeper, alive: str
) -> None:
    """Redis' clock was put back after the client had said that it is there."""
    job = claimed(store, alive, attended_ms=7_200_000)
    keeper.round()
    found = store.read(job.id)
    assert found is not None
    assert found.attended_until < store.clock.now_ms() + 60_000


# -- odd records


DAMAGES: Mapping[str, Mapping[str, str]] = {
    "no JSON": {"usage": "{not json"},
    "an unknown state": {"state": "paused"},
    "no number": {"created_at": "soon"},
    "a time beyond all dates": {"progress_at": "9" * 16},
    "a request that is no object": {"request": "7"},
    "a request without an end": {"request": "{"},
    "more answers than memory": {"request": '{"n":1000000000}'},
    "a price that is none": {"price": "gratis"},
    "no time to live": {"ttl_ms": "for ever"},
    "a byte that is no UTF-8": {"state": b"runn\xedng"},  # type: ignore[dict-item]
}


@pytest.mark.parametrize("name", DAMAGES)
@pytest.mark.parametrize("runs", [True, False])
def test_a_record_that_can_not_be_read_goes_into_quarantine_and_harms_nobody(
    store: JobStore, keeper: Keeper, settings: Settings, alive: str, runs: bool, name: str
) -> None:
    """Its client hears of it, and the operator finds it."""
    odd = claimed(store, alive) if runs else make_job(store)
    store.redis.hset(keys.job(odd.id), mapping=DAMAGES[name])  # type: ignore[arg-type]
    lost, waits = claimed(store, "nobody"), make_job(store)
    with contextlib.suppress(Unreadable):
        # Whoever needs the request finds that it can't be read: a worker, or the keeper where the job is to end.
        store.read(odd.id)
        pytest.fail("it could be read")
    if "request" in DAMAGES[name]:
        cancel_as_client(store, odd)
    for _ in range(3):
        keeper.round()
    assert (state(store, lost), state(store, waits)) == (JobState.QUEUED, JobState.QUEUED)
    found = store.read(odd.id)
    assert found is not None
    assert (found.state, found.error["reason"], indexes(store, odd)) == (JobState.FAILED, "unreadable", set())
    assert store.journals.read(odd.id)[-1].type.terminal
    assert store.redis.hgetall(keys.damaged(odd.id))
    assert not store.redis.sismember(keys.open_jobs("key"), odd.id)
    assert store.redis.pttl(keys.damaged(odd.id)) > 0
    assert store.redis.pttl(keys.job(odd.id)) > 0


def cancel_as_client(store: JobStore, job: Job) -> None:
    """Mark it: who cancels it needs its whole record."""
    store.redis.hset(keys.job(job.id), mapping={"cancel": "1", "owner": "nobody", "progress_at": 1})


def test_a_record_of_another_type_goes_into_quarantine(store: JobStore, keeper: Keeper, alive: str) -> None:
    odd = claimed(store, alive)
    store.redis.delete(keys.job(odd.id))
    store.redis.lpush(keys.job(odd.id), "x")
    keeper.round()
    assert state(store, odd) is JobState.FAILED
    assert store.redis.lrange(keys.damaged(odd.id), 0, -1) == ["x"]


def test_a_record_of_a_newer_version_is_left_to_those_who_know_it(
    store: JobStore, keeper: Keeper, alive: str, caplog: pytest.LogCaptureFixture
) -> None:
    newer = claimed(store, alive)
    store.redis.hset(keys.job(newer.id), mapping={"state": "paused", "v": "2"})
    for _ in range(3):
        keeper.round()
    assert store.redis.hget(keys.job(newer.id), "state") == "paused"
    said = [record.getMessage() for record in caplog.records if newer.id in record.getMessage()]
    assert len(said) == 1, "once, not in each round"
    assert "version 2" in said[0]


def test_a_journal_that_can_not_shrink_harms_nobody(store: JobStore, keeper: Keeper, alive: str) -> None:
    jobs = []
    for odd in (True, False):
        job = claimed(store, alive)
        deltas = [f'{{"type":"delta","c":"{job.claim}","text":"a","tool_calls":[{7 if odd else ""}]}}'] * 8
        store.journals.append(
            [Append(job.id, job.claim, 1, [*deltas, f'{{"type":"done","c":"{job.claim}"}}'], JobState.DONE)]
        )
        store.finalize(Ended(job, JobState.DONE, {}))
        jobs.append(job)
    store.redis.zadd(keys.ended(MODEL), {job.id: 1 for job in jobs})
    store.redis.sadd(keys.QUEUES, MODEL)
    keeper.round()
    assert [store.redis.xlen(keys.events(job.id)) for job in jobs] == [9, 2]
    with pytest.raises(Unreadable, match="tool_calls"):
        store.journals.read(jobs[0].id)
    assert not store.redis.zcard(keys.ended(MODEL))


def test_the_keeper_says_how_long_its_rounds_take(store: JobStore, keeper: Keeper) -> None:
    keeper.round()
    said = loads(store.redis.get(keys.KEEPER) or "{}")
    assert said["trusted"] is True
    assert 0 < said["round_s"] < 5


def test_a_keeper_without_redis_goes_on_when_it_is_back(
    settings: Settings, store: JobStore, keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And judges nothing for a while."""
    monkeypatch.setattr(
        keeper.store.clock, "now_ms", lambda: (_ for _ in ()).throw(redis.exceptions.OutOfMemoryError("x"))
    )
    with pytest.raises(redis.exceptions.OutOfMemoryError):
        keeper._step()
    assert not keeper.trust.held_for(1)
    monkeypatch.undo()
    keeper._step()
    eventually(lambda: keeper.trust.held_for(0.1), "trust grows again")


def test_wake_up_messages_of_the_keeper_are_tasks_of_celery(store: JobStore, keeper: Keeper) -> None:
    job = make_job(store)
    keeper.queues.enqueue(job, sweeps.Priority.RECOVERED)
    (raw,) = store.redis.lrange(model_queue(MODEL), 0, -1)
    assert loads(raw)["headers"]["task"] == GENERATE
