"""Limits and the ledger over a real Redis: reserved at once, settled once, and never leaked."""

from __future__ import annotations

import random
import threading
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import redis

from gateway.access.api_keys import Credentials, KeyRecord
from gateway.access.limits import KEYS_AT_ONCE, Limits
from gateway.errors import InvalidRequest, RateLimited
from gateway.inference.estimates import UNLIMITED_ANSWER
from gateway.jobs.cleanup import Cleanup
from gateway.jobs.control import cancel, fail
from gateway.jobs.events import Append
from gateway.jobs.job_kind import kind_of
from gateway.jobs.journal_store import AppendVerdict
from gateway.jobs.ledger import Usage, price
from gateway.jobs.record import Job, JobState, new_claim_id, new_job_id
from gateway.jobs.store import Ended, JobStore
from gateway.models.entry import Model, Pricing
from gateway.store import keys
from gateway.store.codec import dumps
from workers.keeper.keeper import Keeper

PRICE = Pricing(input_per_1k_tokens=0.03, output_per_1k_tokens=0.06, currency="EUR")


@pytest.fixture
def store(redis_client: redis.Redis) -> JobStore:
    return JobStore(redis_client)


@pytest.fixture
def limits(store: JobStore) -> Limits:
    return Limits(store.redis, store.scripts)


def make_key(store: JobStore, requests: int = 0, tokens: int = 0) -> KeyRecord:
    return Credentials(store.redis).create("k", requests_per_minute=requests, tokens_per_minute=tokens)[0]


def make_job(store: JobStore, key: KeyRecord, job_id: str = "") -> Job:
    job = Job(job_id or new_job_id("chat"), JobState.QUEUED, "chat", "a/b:c.1", key.id, {}, price=price(PRICE))
    return store.create(job, ttl_ms=60_000).job


def run(store: JobStore, job: Job, *, prompt: int, tokens: int) -> Job:
    """Claim the job and journal so many tokens, as a worker does."""
    claimed = store.claim(job.id, model=job.model, owner="w", claim=new_claim_id())
    assert claimed is not None
    events = [{"type": "started", "prompt_tokens": prompt}, {"type": "delta", "ids": [1] * tokens}]
    store.journals.append([Append(job.id, claimed.claim, 1, [dumps({"c": claimed.claim, **e}) for e in events])])
    return claimed


def finish(store: JobStore, claimed: Job, usage: Mapping[str, int]) -> None:
    """The terminal append of a worker; the worker has not settled yet."""
    done = dumps({"type": "done", "c": claimed.claim})
    fields = {"usage": dumps(usage)}
    assert (
        store.journals.append([Append(claimed.id, claimed.claim, 3, [done], JobState.DONE, fields)])[0].verdict
        is AppendVerdict.OK
    )


def pass_time(store: JobStore, key: KeyRecord, seconds: float) -> None:
    """Make all charges older, as if time had passed."""
    window = keys.limits(key.id)[0]
    for job_id in store.redis.zrange(window, 0, -1):
        store.redis.zincrby(window, -1000 * seconds, job_id)


def ledger(store: JobStore, *key_ids: str) -> list[Usage]:
    now = datetime.now(UTC)
    return store.ledger.report(key_ids, start=now - timedelta(hours=1), end=now + timedelta(hours=1))


def usage(prompt: int, completion: int) -> dict[str, int]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def test_many_at_once_get_exactly_what_the_limit_holds(store: JobStore, limits: Limits) -> None:
    key = make_key(store, requests=50, tokens=1_000)
    taken: list[int] = []
    refused: list[RateLimited] = []
    barrier = threading.Barrier(8)

    def ask(seed: int) -> None:
        sizes = random.Random(seed)
        barrier.wait()
        for _ in range(40):
            tokens = sizes.randint(1, 60)
            try:
                limits.reserve(key, new_job_id("chat"), tokens)
                taken.append(tokens)
            except RateLimited as error:
                refused.append(error)

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) <= 50
    assert 940 < sum(taken) <= 1_000 or len(taken) == 50
    assert len(taken) + len(refused) == 320
    assert refused[-1].headers["x-ratelimit-remaining-tokens"] == str(1_000 - sum(taken))
    assert all(error.retry_after_s and 1 <= error.retry_after_s <= 60 for error in refused)


def correct(limits: Limits, job: Job, tokens: int) -> None:
    """Charge a job what it may really use."""
    limits.correct(job.key_id, job.id, reserved=job.reserved, tokens=tokens)


def test_an_estimate_that_was_too_low_is_corrected(store: JobStore, limits: Limits) -> None:
    key = make_key(store, tokens=100)
    job = replace(make_job(store, key), reserved=40)
    limits.reserve(key, job.id, 40)
    for tokens in (30, 90, 90, 70):
        correct(limits, job, tokens)
    with pytest.raises(RateLimited) as caught:
        limits.reserve(key, "other", 31)
    assert caught.value.headers["x-ratelimit-remaining-tokens"] == "30"
    limits.reserve(key, "other", 30)
    with pytest.raises(RateLimited) as caught:
        correct(limits, job, 71)
    assert caught.value.reason == "rate_limit_tokens"
    assert 0 < (caught.value.retry_after_s or 0) <= 60
    correct(limits, job, 70)
    pass_time(store, key, 61)
    limits.reserve(key, "later", 100)
    correct(limits, job, 1_000)  # its minute is over


def test_a_key_without_a_limit_of_tokens_needs_no_correction(store: JobStore, limits: Limits) -> None:
    key = make_key(store, requests=5)
    job = make_job(store, key)
    limits.reserve(key, job.id, 10)
    correct(limits, job, 10**6)
    correct(limits, replace(job, reserved=10), 10**6)


def test_a_refused_request_counts_as_one_and_does_not_lapse(store: JobStore, limits: Limits) -> None:
    key, error = make_key(store, requests=2), InvalidRequest("no")
    assert [limits.refuse(key, error) for _ in range(2)] == [error, error]
    pass_time(store, key, 10)
    limits.reclaim_expired_reservations()
    found = limits.refuse(key, error)
    assert isinstance(found, RateLimited)
    assert found.reason == "rate_limit_requests"
    assert limits.refuse(make_key(store), error) is error


def test_reservations_of_many_keys_are_looked_at_in_turns(store: JobStore, limits: Limits) -> None:
    key, others = make_key(store, requests=1), 20 * KEYS_AT_ONCE
    store.redis.sadd(keys.LIMITED, *(f"key-{i}" for i in range(others)))
    limits.reserve(key, "never-made", 0)
    pass_time(store, key, 10)
    looks = 0
    while store.redis.zcard(keys.limits(key.id)[0]) and looks < 60:
        before = store.redis.info("commandstats")["cmdstat_evalsha"]["calls"]
        limits.reclaim_expired_reservations()
        assert store.redis.info("commandstats")["cmdstat_evalsha"]["calls"] - before < others / 4
        looks += 1
    limits.reserve(key, "another", 0)


def test_a_request_asked_again_is_charged_once(store: JobStore, limits: Limits) -> None:
    key = make_key(store, requests=2, tokens=100)
    first, again = (limits.reserve(key, "chatcmpl-1", 60) for _ in range(2))
    assert first is not None
    assert again is not None
    assert (first.remaining_requests, first.remaining_tokens) == (1, 40)
    assert (again.remaining_requests, again.remaining_tokens) == (1, 40)


def test_a_charge_leaves_after_a_minute_and_retry_after_says_when(store: JobStore, limits: Limits) -> None:
    key = make_key(store, requests=2)
    limits.reserve(key, "a", 1)
    pass_time(store, key, 40)
    limits.reserve(key, "b", 1)
    with pytest.raises(RateLimited) as caught:
        limits.reserve(key, "c", 1)
    assert caught.value.reason == "rate_limit_requests"
    assert caught.value.retry_after_s == 20
    assert 59 < float(caught.value.headers["x-ratelimit-reset-requests"].removesuffix("s")) <= 60
    pass_time(store, key, 20)
    quota = limits.reserve(key, "c", 1)
    assert quota is not None
    assert quota.remaining_requests == 0
    assert quota.headers().keys() == {f"x-ratelimit-{name}-requests" for name in ("limit", "remaining", "reset")}


def test_retry_after_for_tokens_is_when_enough_of_them_have_left(store: JobStore, limits: Limits) -> None:
    key = make_key(store, tokens=100)
    for job_id in ("a", "b", "c"):
        limits.reserve(key, job_id, 30)
        pass_time(store, key, 10)
    with pytest.raises(RateLimited) as caught:
        limits.reserve(key, "d", 60)
    assert caught.value.reason == "rate_limit_tokens"
    assert caught.value.retry_after_s == 40
    with pytest.raises(InvalidRequest, match=r"101 tokens .* 100 a minute"):
        limits.reserve(key, "d", 101)


def test_the_end_sets_the_reservation_to_what_was_used_once(store: JobStore, limits: Limits, keeper: Keeper) -> None:
    key = make_key(store, tokens=1_000)
    job = make_job(store, key)
    limits.reserve(key, job.id, 900)
    claimed = run(store, job, prompt=7, tokens=20)
    finish(store, claimed, usage(7, 20))
    for _ in range(2):
        store.finalize(Ended(claimed, JobState.DONE, usage(7, 20)))
    keeper.round()
    quota = limits.reserve(key, "next", 100)
    assert quota is not None
    assert quota.remaining_tokens == 1_000 - 27 - 100
    expected = Usage("", key.id, "a/b:c.1", "EUR", 1, 7, 20, 7 * 30_000_000 + 20 * 60_000_000)
    assert ledger(store, key.id) == [expected]
    assert expected.cost == pytest.approx(0.00141)


def test_a_worker_that_dies_before_it_settles_is_settled_for(store: JobStore, limits: Limits, keeper: Keeper) -> None:
    key = make_key(store, tokens=1_000)
    job = make_job(store, key)
    limits.reserve(key, job.id, 900)
    claimed = run(store, job, prompt=7, tokens=20)
    finish(store, claimed, usage(7, 20))
    assert ledger(store, key.id) == []
    keeper.round()
    assert [(row.jobs, row.total_tokens) for row in ledger(store, key.id)] == [(1, 27)]
    store.finalize(Ended(claimed, JobState.DONE, usage(7, 20)))  # it was only asleep
    assert [(row.jobs, row.total_tokens) for row in ledger(store, key.id)] == [(1, 27)]
    assert store.redis.scard(keys.open_jobs(key.id)) == 0


@pytest.mark.parametrize("how", ["cancelled", "failed"])
def test_a_job_that_is_ended_from_outside_counts_what_was_generated(store: JobStore, limits: Limits, how: str) -> None:
    key = make_key(store, tokens=1_000)
    job = make_job(store, key)
    limits.reserve(key, job.id, 900)
    claimed = run(store, job, prompt=7, tokens=20)
    if how == "cancelled":
        cancel(store, claimed, reason="client_request", take_claim=claimed.claim)
    else:
        fail(store, claimed, reason="engine_crashed", message="it died", take_claim=claimed.claim)
    record = store.read(job.id)
    assert record is not None
    assert record.usage == usage(7, 20)
    assert [(row.jobs, row.total_tokens) for row in ledger(store, key.id)] == [(1, 27)]
    quota = limits.reserve(key, "next", 1)
    assert quota is not None
    assert quota.remaining_tokens == 1_000 - 27 - 1


def test_a_job_that_ends_in_the_queue_gives_everything_back(store: JobStore, limits: Limits) -> None:
    key = make_key(store, requests=5, tokens=1_000)
    job, discarded = make_job(store, key), make_job(store, key)
    for made in (job, discarded):
        limits.reserve(key, made.id, 400)
    cancel(store, job, reason="client_request")
    store.discard(discarded)
    quota = limits.reserve(key, "next", 1)
    assert quota is not None
    assert (quota.remaining_requests, quota.remaining_tokens) == (3, 999)  # what was never made is no request
    assert [(row.jobs, row.total_tokens) for row in ledger(store, key.id)] == [(1, 0)]


def test_what_was_reserved_for_a_job_that_was_never_made_comes_back(
    store: JobStore, limits: Limits, keeper: Keeper
) -> None:
    key = make_key(store, requests=5, tokens=1_000)
    made = make_job(store, key)
    for job_id in (made.id, "chatcmpl-lost"):
        limits.reserve(key, job_id, 400)
    settled = make_job(store, key)
    limits.reserve(key, settled.id, 100)
    cancel(store, settled, reason="client_request")
    store.redis.delete(keys.job(settled.id))  # its record has expired
    for _ in range(2):
        pass_time(store, key, 3)
        keeper.round()
    quota = limits.reserve(key, "next", 1)
    assert quota is not None
    assert (quota.remaining_requests, quota.remaining_tokens) == (2, 599)


def test_a_restarted_redis_does_not_make_a_worker_count_twice(store: JobStore) -> None:
    key = make_key(store)
    claimed = run(store, make_job(store, key), prompt=7, tokens=20)
    finish(store, claimed, usage(7, 20))
    store.finalize(Ended(claimed, JobState.DONE, usage(7, 20)))
    store.restore(claimed, owner="w")
    store.finalize(Ended(claimed, JobState.DONE, usage(7, 20)))
    assert [(row.jobs, row.total_tokens) for row in ledger(store, key.id)] == [(1, 27)]


def test_an_end_that_redis_has_lost_again_is_not_counted(store: JobStore) -> None:
    """It comes again, or the job goes on and has another."""
    key = make_key(store)
    claimed = run(store, make_job(store, key), prompt=7, tokens=20)
    store.finalize(Ended(claimed, JobState.CANCELLED, usage(7, 0)))
    assert store.redis.sismember(keys.open_jobs(key.id), claimed.id)
    finish(store, claimed, usage(7, 20))
    store.finalize(Ended(claimed, JobState.DONE, usage(7, 20)))
    assert not store.redis.exists(keys.open_jobs(key.id))


def test_the_report_takes_hours_models_and_keys_apart(store: JobStore) -> None:
    first, second = make_key(store), make_key(store)
    noon = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
    for key, hours in ((first, 0), (first, 1), (first, 24), (second, 0)):
        made = int((noon + timedelta(hours=hours)).timestamp() * 1000)
        claimed = run(store, make_job(store, key), prompt=10, tokens=1)
        finish(store, claimed, usage(10, 1))
        store.finalize(Ended(replace(claimed, created_at=made), JobState.DONE, usage(10, 1)))

    def jobs(*key_ids: str, hours: float, model: str | None = None) -> int:
        rows = store.ledger.report(key_ids, start=noon, end=noon + timedelta(hours=hours), model=model)
        return sum(row.jobs for row in rows)

    assert jobs(first.id, hours=0.25) == 1
    assert jobs(first.id, hours=1) == 2
    assert jobs(first.id, hours=25) == 3
    assert jobs(first.id, second.id, hours=25) == 4
    assert jobs(first.id, hours=25, model="a/b:c.1") == 3
    assert jobs(first.id, hours=25, model="a/b") == 0


def test_jobs_that_have_expired_leave_the_lists_of_their_key(store: JobStore) -> None:
    key = make_key(store)
    jobs = [make_job(store, key) for _ in range(30)]
    store.redis.delete(*(keys.job(job.id) for job in jobs[::2]))
    young = make_job(store, key)
    store.redis.delete(keys.job(young.id))  # as if it were about to be written
    store.redis.zadd(keys.owned(key.id), {job.id: 1 for job in jobs})
    for _ in range(3):
        Cleanup(store).step()
    left = {job.id for job in jobs[1::2]} | {young.id}
    assert set(store.redis.zrange(keys.owned(key.id), 0, -1)) == left
    assert store.redis.smembers(keys.open_jobs(key.id)) == left


def test_what_a_request_may_use_is_bounded_by_its_prompts_and_choices() -> None:
    model = Model("m", "m", "", "1", ("chat",), default_max_tokens=100)
    assert kind_of("completion").estimate(model, {"prompt": "abcdef", "max_tokens": 10}) == 2 + 10
    assert kind_of("completion").estimate(model, {"prompt": ["abc", "def"], "max_tokens": 10, "n": 3}) == 2 + 60
    assert kind_of("completion").estimate(model, {"prompt": [[1, 2, 3]], "max_tokens": None}) == 3 + 100
    assert kind_of("completion").estimate(model, {"prompt": [1, 2, 3], "n": 2}) == 3 + 200
    assert kind_of("embedding").estimate(model, {"input": ["abc", "abc"]}) == 2
    chat = {"messages": [{"role": "user", "content": "\u4f60\u597d"}], "max_tokens": 5}
    assert kind_of("chat").estimate(model, chat) == 4 + 2 + 2 + 5


def test_an_answer_that_nobody_has_limited_reserves_a_usual_one() -> None:
    """Though it may fill the context, which is what the scheduler reckons with at most."""
    model = Model("m", "m", "", "1", ("chat",), context_length=8192, max_tokens=8192)
    asked = {"prompt": "abc", "n": 2}
    assert kind_of("completion").estimate(model, asked) == 1 + 2 * UNLIMITED_ANSWER
    assert kind_of("completion").most(model, asked) == 1 + 2 * 8192
    assert kind_of("completion").most(model, {**asked, "max_tokens": 7}) == 1 + 14
    assert kind_of("completion").estimate(replace(model, max_tokens=100), asked) == 1 + 200


def test_a_clock_that_went_back_holds_no_charge_for_longer(store: JobStore, limits: Limits) -> None:
    """Given charges and a reservation from the future, then they count from now on, and leave with the others."""
    key = make_key(store, requests=2)
    limits.reserve(key, "a", 10)
    limits.reserve(key, "b", 10)
    window = keys.limits(key.id)[0]
    for job_id in ("a", "b"):
        store.redis.zadd(window, {job_id: store.clock.now_ms() + 7_200_000})
    with pytest.raises(RateLimited) as caught:
        limits.reserve(key, "c", 10)
    assert caught.value.retry_after_s is not None
    assert caught.value.retry_after_s <= 60
    assert float(caught.value.headers["x-ratelimit-reset-requests"].removesuffix("s")) <= 60
    store.redis.zadd(window, {job_id: store.clock.now_ms() + 7_200_000 for job_id in ("a", "b")})
    store.scripts.run("limit", keys.limits(key.id), "reserved", 0)
    assert {score <= store.clock.now_ms() for _, score in store.redis.zrange(window, 0, -1, withscores=True)} == {True}
