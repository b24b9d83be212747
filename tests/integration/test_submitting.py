"""Requests without a worker: what a submit that fails leaves behind, and what a whole answer is made of."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
import redis

from gateway.access.api_keys import KeyRecord
from gateway.cluster.registry import Registry, Replica
from gateway.context import Gateway
from gateway.errors import QueueFull, StoreUnavailable
from gateway.inference.service import Inference, Submitted
from gateway.jobs.control import fail
from gateway.jobs.events import Append
from gateway.jobs.job_kind import slots_of
from gateway.jobs.record import JobState, new_claim_id
from gateway.jobs.store import Created
from gateway.settings import Settings
from gateway.store import keys
from gateway.store.codec import dumps
from gateway.views.whole_answer import whole
from tests.stack import eventually
from web.app import create_app

REQUEST = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 5}


@pytest.fixture
def places() -> int:
    """In the queue."""
    return 1


@pytest.fixture
def gateway(settings: Settings, redis_client: redis.Redis, places: int) -> Iterator[Gateway]:
    """Few places in the queue of a replica that takes nothing."""
    gateway = Gateway.connect(replace(settings, queue_limit=places))
    Registry(redis_client).heartbeat(Replica("i", "r", "fake", "n", "cpu0", "active", 1), lease_s=60)
    with closing(gateway.hub), closing(gateway.redis):
        yield gateway


@pytest.fixture
def key(gateway: Gateway) -> KeyRecord:
    return gateway.credentials.create("k", requests_per_minute=100)[0]


def submit(gateway: Gateway, key: KeyRecord, mark: str | None = None) -> Submitted:
    return gateway.inference.submit("chat", "fake", REQUEST, key=key, background=False, idempotency_key=mark)


def records(client: redis.Redis) -> list[str]:
    return list(client.keys("hr:{chatcmpl-*}"))


@pytest.mark.parametrize(
    ("kind", "request_", "slots"),
    [
        ("chat", REQUEST, 1),
        ("chat", {**REQUEST, "n": 3}, 3),
        ("completion", {"prompt": "a", "max_tokens": 5}, 1),
        ("completion", {"prompt": ["a", "b"], "n": 2, "max_tokens": 5}, 4),
    ],
)
def test_a_record_says_how_many_sequences_its_job_is(
    gateway: Gateway, key: KeyRecord, kind: str, request_: dict[str, Any], slots: int
) -> None:
    """So that a worker waits for them before it has the request, which it reads where an older version did not say."""
    job = gateway.inference.submit(kind, "fake", request_, key=key, background=True).job
    found = gateway.store.head(job.id)
    assert found is not None
    assert (found.slots, slots_of(gateway.store, found)) == (slots, slots)
    gateway.redis.hdel(keys.job(job.id), "slots")
    older = gateway.store.head(job.id)
    assert older is not None
    assert (older.slots, slots_of(gateway.store, older)) == (0, slots)
    gateway.redis.delete(keys.job(job.id))
    assert slots_of(gateway.store, older) == 1, "nobody will claim it"


def test_an_error_of_a_job_that_was_made_before_is_no_request_that_was_refused(gateway: Gateway) -> None:
    """Given a job that has failed for its request, then whoever asks for it again by its key is charged nothing."""
    client = create_app(gateway).test_client()
    record, secret = gateway.credentials.create("k", requests_per_minute=100)
    headers = {"Authorization": f"Bearer {secret}", "Idempotency-Key": "one"}
    path, charges = "/models/fake/chat/completions", keys.limits(record.id)[0]
    job_id = client.post(path, json=REQUEST, headers={**headers, "Prefer": "respond-async"}).json["data"]["job_id"]
    job = gateway.inference.get(job_id, key=record)
    fail(gateway.store, job, reason="invalid_request", message="It can't be done.")
    charged = gateway.redis.zcard(charges)
    answer = client.post(path, json=REQUEST, headers=headers)
    assert (answer.status_code, answer.json["message"]) == (422, "It can't be done.")
    assert (answer.headers["X-Job-Id"], answer.headers["Idempotent-Replayed"]) == (job_id, "true")
    assert gateway.redis.zcard(charges) == charged
    assert client.post(path, json={}, headers=headers).status_code == 422
    assert gateway.redis.zcard(charges) == charged + 1


def test_a_job_that_was_made_in_part_is_taken_back(gateway: Gateway, key: KeyRecord, redis_client: redis.Redis) -> None:
    """Given a Redis that refuses one command of the pipeline, then the others are undone, and nobody watches."""
    redis_client.set(keys.owned(key.id), "no sorted set")
    with pytest.raises(redis.exceptions.ResponseError):
        submit(gateway, key)
    assert records(redis_client) == []
    assert redis_client.zcard(keys.queued("fake")) == 0
    assert redis_client.scard(keys.open_jobs(key.id)) == 0
    assert redis_client.zcard(keys.limits(key.id)[0]) == 0
    assert gateway.hub.watching() == 0


def test_a_full_queue_takes_back_no_job_that_others_may_know(
    gateway: Gateway, key: KeyRecord, redis_client: redis.Redis
) -> None:
    first = submit(gateway, key, "first")
    for _ in range(2):
        again = submit(gateway, key, "first")
        assert (again.job.id, again.replayed) == (first.job.id, True)
    for mark in ("second", None):
        with pytest.raises(QueueFull) as caught:
            submit(gateway, key, mark)
        assert caught.value.retry_after_s
    assert records(redis_client) == [keys.job(first.job.id)]
    assert redis_client.zrange(keys.queued("fake"), 0, -1) == [first.job.id]
    assert redis_client.zcard(keys.limits(key.id)[0]) == 1
    assert gateway.hub.watching() == 3


def test_no_job_is_accepted_that_redis_has_lost_meanwhile(
    gateway: Gateway, key: KeyRecord, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a message waits for a Redis that comes back without its last moments."""

    def announce(_: Inference, created: Created) -> None:
        redis_client.delete(keys.job(created.job.id))

    monkeypatch.setattr(Inference, "_announce", announce)
    monkeypatch.setattr("gateway.inference.service.OUTAGE_S", 0.0)
    for mark in (None, "again"):
        with pytest.raises(StoreUnavailable, match="Send it again"):
            submit(gateway, key, mark)
        redis_client.delete(keys.queued("fake"), *redis_client.keys(f"{keys.lines('fake')}*"))
    assert gateway.hub.watching() == 0


def test_who_waits_for_a_whole_answer_that_is_lost_is_told_to_ask_again(
    gateway: Gateway, key: KeyRecord, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.watching.watcher.MISSING_S", 0.5)
    submitted = submit(gateway, key)
    assert submitted.watcher is not None
    redis_client.delete(keys.job(submitted.job.id))
    with pytest.raises(StoreUnavailable, match="Send it again"):
        whole(gateway.inference, submitted, submitted.watcher, key=key, client_left=lambda: False)
    assert gateway.hub.watching() == 0


def test_a_whole_answer_counts_nothing_that_is_void(
    gateway: Gateway, key: KeyRecord, redis_client: redis.Redis
) -> None:
    """Given a client that waits while Redis loses tokens that it has counted, then the answer has each once."""
    store, submitted = gateway.store, submit(gateway, key)
    job, watcher = submitted.job, submitted.watcher
    assert watcher is not None
    answers: list[dict[str, Any]] = []

    def ask() -> None:
        answers.append(whole(gateway.inference, submitted, watcher, key=key, client_left=lambda: False))

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    for first, text in ((1, "ab"), (2, "XY")):
        claim = new_claim_id()
        assert store.claim(job.id, model="fake", owner="w", claim=claim)
        events = [dumps({"type": "delta", "c": claim, "text": letter, "ids": [1]}) for letter in text]
        store.journals.append([Append(job.id, claim, first, events)])
        if first == 1:
            eventually(lambda: watcher.seq == 2, "the client has both")
            (kept, *_) = store.journals.read(job.id)
            redis_client.delete(keys.events(job.id))
            redis_client.xadd(keys.events(job.id), {"e": kept.encoded}, id="1-0")
            redis_client.hset(keys.job(job.id), mapping={"seq": 1, "state": "queued", "claim": ""})
    done = [dumps({"type": "done", "c": claim, "usage": {}})]
    store.journals.append([Append(job.id, claim, 4, done, JobState.DONE)])
    thread.join(60)
    assert answers[0]["choices"][0]["message"]["content"] == "aXY"
    assert answers[0]["usage"]["completion_tokens"] == 3


def test_who_waits_is_told_0_only_while_a_replica_has_a_slot_free(gateway: Gateway, key: KeyRecord) -> None:
    """A heartbeat may be older than the job that has taken its last slot; one that waits would have taken it."""
    beat = Replica("i", "r", "fake", "n", "cpu0", "active", 1, max_batch_size=1, slot_s=2.0, background_slot_s=3.0)
    Registry(gateway.redis).heartbeat(beat, lease_s=60)
    job, waiting = submit(gateway, key).job, gateway.inference.waiting
    new = replace(job, created_at=job.created_at + 60_000)
    assert waiting.wait(new, 1).eta_s == 0.0
    waits = replace(job, created_at=job.created_at - 1_000)
    assert waiting.places([waits]) == {job.id: {"position": 1, "eta_s": 2.0, "loading": None}}
    background = replace(waits, background=True)
    assert waiting.wait(background, 2).eta_s == 3.0, "what the job before it gets is counted as theirs"
    gateway.redis.set(f"{keys.lines('fake')}:interactive", "somebody else's")
    assert waiting.wait(background, 2).eta_s == 6.0


@pytest.mark.parametrize("places", [2])
def test_who_is_refused_since_others_were_told_to_come_back_is_told_so(gateway: Gateway, key: KeyRecord) -> None:
    """One of two places is free by then, but it is promised."""

    def refused(text: str) -> str:
        came_ms = gateway.store.clock.now_ms()
        eventually(lambda: gateway.store.clock.now_ms() > came_ms, "it is the youngest")
        request = {**REQUEST, "messages": [{"role": "user", "content": text}]}
        with pytest.raises(QueueFull) as caught:
            gateway.inference.submit("chat", "fake", request, key=key, background=False)
        return caught.value.message

    first, _ = submit(gateway, key).job, submit(gateway, key)
    assert refused("a").startswith("2 interactive requests wait for 'fake' before this one, and the limit is 2.")
    gateway.inference.cancel(first.id, key=key)
    assert refused("b").startswith(
        "1 interactive requests wait for 'fake' before this one, with room kept for 1 told to come back, and the "
        "limit is 2. Try again in "
    )


@pytest.mark.parametrize("count", [1, 20])
def test_the_places_of_many_jobs_are_asked_for_in_as_many_round_trips_as_that_of_one(
    gateway: Gateway, key: KeyRecord, count: int
) -> None:
    jobs = [gateway.inference.submit("chat", "fake", REQUEST, key=key, background=True).job for _ in range(count)]
    gateway.inference.waiting.places(jobs)  # the replicas are known now
    before = int(gateway.redis.info("stats")["total_reads_processed"])
    places = gateway.inference.waiting.places(jobs)
    assert int(gateway.redis.info("stats")["total_reads_processed"]) == before + 3, "positions, lines, and this one"
    assert sorted(places[job.id]["position"] for job in jobs) == list(range(1, count + 1))
