"""Who serves a request: fallbacks of models that can't, hand-overs in mid-answer, and circuit breakers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
import redis

from gateway.inference.breaker import Breaker, Call
from gateway.jobs.events import Append, EventType
from gateway.jobs.journal_store import AppendVerdict
from gateway.jobs.record import Cause, Job, JobState, new_job_id
from gateway.jobs.store import JobStore
from gateway.queue.celery_app import make_celery
from gateway.queue.enqueue import enqueue
from gateway.queue.names import Priority
from gateway.settings import Settings
from gateway.store import keys
from gateway.store.codec import dumps
from gateway.store.scripts import Scripts
from tests.stack import Stack, chat, eventually, running
from workers.engines.fake import fake_token

FAILED = Call("upstream_error", 0.1)
#: How long a breaker stays open here: long enough for a few calls on a busy machine.
OPEN_S = 1.5
MODELS = {
    "absent": {"capabilities": ["chat"], "engine": "fake", "fallbacks": ["absent-too", "fake"]},
    "absent-too": {"capabilities": ["chat"], "engine": "fake"},
}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("s"), {"fake": {"step_s": 0.005}}, models_json=dumps(MODELS)) as stack:
        yield stack


def test_a_fallback_takes_what_its_model_can_not(stack: Stack) -> None:
    with stack.client() as client:
        body = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 3}
        answer = client.post("/models/absent/chat/completions", json=body)
        refused = client.post("/models/absent-too/chat/completions", json=body)
    assert answer.status_code == 200
    assert answer.json()["data"]["model"] == "fake"
    assert answer.json()["data"]["served_by"] == ["fake"]
    assert refused.status_code == 503
    assert refused.json()["data"]["reason"] == "model_not_ready"
    job = stack.store.read(answer.headers["X-Job-Id"])
    assert job is not None
    assert (job.model, job.runs_on) == ("absent", "fake")


def handed_over(store: JobStore, *, mode: str) -> Job:
    """A job that another model has begun, and handed to `fake` in the middle of its answer."""
    request = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 8, "temperature": 1.0, "top_p": 1.0}
    job = Job(new_job_id("chat"), JobState.QUEUED, "chat", "absent", "key", request)
    store.create(job, ttl_ms=60_000)
    claimed = store.claim(job.id, model="absent", owner="nobody", claim="c1")
    assert claimed is not None
    store.release(claimed, Cause.LOST)
    claimed = store.claim(job.id, model="absent", owner="nobody", claim="c1")
    assert claimed is not None
    events = [
        {"type": EventType.STARTED, "c": "c1", "model": "absent", "prompt_tokens": 7},
        {"type": EventType.DELTA, "c": "c1", "text": "Once upon a"},
        {"type": EventType.INTERRUPTED, "c": "c1", "model": "absent", "mode": mode, "completion_tokens": 5},
    ]
    append = Append(job.id, "c1", 1, [dumps(e) for e in events], JobState.QUEUED, {"route": "fake"})
    assert store.journals.append([append])[0].verdict is AppendVerdict.OK
    assert store.redis.hget(keys.job(job.id), "cause") == "handed_over", "not why it was released before"
    assert store.claim(job.id, model="absent", owner="late", claim="c2") is None, "the old model has no claim to it"
    store.indexes.after_handover(claimed, "fake")
    return job


def test_a_local_model_goes_on_from_the_text_of_another(stack: Stack) -> None:
    job = handed_over(stack.store, mode="continue")
    enqueue(make_celery(stack.settings), job.id, queue_key="fake", priority=Priority.RECOVERED)
    eventually(lambda: (found := stack.store.read(job.id)) and found.state is JobState.DONE, "the job is done")
    with stack.client() as client:
        data = client.get(f"/jobs/{job.id}").json()["data"]
    # "Once upon a" is 3 tokens of the fake model, so that 5 of 8 are left.
    words = "".join(f" w{fake_token(f'{job.id}/0', i)}" for i in range(3, 8))
    assert data["result"]["choices"][0]["message"]["content"] == f"Once upon a{words}"
    assert data["result"]["served_by"] == ["absent", "fake"]
    assert data["result"]["model"] == "fake"
    assert data["usage"] == {"prompt_tokens": 7 + 1, "completion_tokens": 5 + 5, "total_tokens": 18}
    events = stack.journal(job.id)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    resumed = next(event for event in events if event.type is EventType.RESUMED)
    assert (resumed.body["from"], resumed.body["model"], resumed.body["mode"]) == ("absent", "fake", "continue")


def test_a_restart_takes_back_the_text_of_another(stack: Stack) -> None:
    job = handed_over(stack.store, mode="restart")
    enqueue(make_celery(stack.settings), job.id, queue_key="fake", priority=Priority.RECOVERED)
    eventually(lambda: (found := stack.store.read(job.id)) and found.state is JobState.DONE, "the job is done")
    words = "".join(f" w{fake_token(f'{job.id}/0', i)}" for i in range(8))
    with stack.client() as client:
        data = client.get(f"/jobs/{job.id}").json()["data"]
        stream = client.get(f"/jobs/{job.id}/events").text
    assert data["result"]["choices"][0]["message"]["content"] == words
    assert '"rewound":{"seq":4,"text":{}}' in stream


def test_a_lost_wake_up_message_of_a_handed_over_job_is_sent_again(stack: Stack) -> None:
    job = handed_over(stack.store, mode="continue")
    eventually(lambda: (found := stack.store.read(job.id)) and found.state is JobState.DONE, "the keeper has seen it")


def test_streams_of_the_usual_kind_name_one_model(stack: Stack) -> None:
    stream = chat(stack, max_tokens=3).join()
    with stack.client() as client:
        result = client.get(f"/jobs/{stream.job_id}").json()["data"]["result"]
    assert result["model"] == "fake"
    assert "served_by" not in result


@pytest.fixture
def breaker(redis_client: redis.Redis, settings: Settings) -> Breaker:
    fast = replace(settings, breaker_failures=3, breaker_window_s=30.0, breaker_open_s=OPEN_S)
    return Breaker(Scripts(redis_client), fast)


def test_a_breaker_opens_lets_one_call_probe_and_closes(breaker: Breaker) -> None:
    for _ in range(2):
        assert breaker.failure("p", FAILED).state == "closed"
    breaker.success("p", Call("done", 0.1))
    assert breaker.failure("p", FAILED).state == "open", "three failures within the window"
    assert not breaker.allow("p").allows_call
    assert 0 < breaker.state("p").retry_after_s <= OPEN_S
    assert breaker.allow("other").allows_call
    eventually(lambda: breaker.state("p").state == "half_open", "it is tried again")
    leaves = [breaker.allow("p").allows_call for _ in range(5)]
    assert leaves == [True, False, False, False, False]
    breaker.success("p", Call("done", 0.1))
    assert breaker.state("p").state == "closed"
    assert breaker.failure("p", FAILED).state == "closed", "it counts from the beginning"


def test_a_failed_probe_opens_the_breaker_again(breaker: Breaker) -> None:
    for _ in range(3):
        breaker.failure("p", FAILED)
    eventually(lambda: breaker.allow("p").allows_call, "a probe is let through")
    assert breaker.failure("p", FAILED).state == "open"
    assert not breaker.allow("p").allows_call


def test_a_clock_that_went_back_keeps_no_breaker_open(breaker: Breaker, redis_client: redis.Redis) -> None:
    later = str(int(time.time() * 1000) + 7_200_000)
    circuit, failures = keys.breaker("p")
    redis_client.hset(circuit, mapping={"opened_at": later, "probe_until": later})
    assert breaker.allow("p").allows_call
    assert not breaker.allow("p").allows_call, "one caller at a time"
    assert breaker.failure("p", FAILED).state == "open"
    assert 0 < breaker.state("p").retry_after_s <= OPEN_S
    redis_client.delete(circuit)
    redis_client.zadd(failures, {"a": later, "b": later})
    assert breaker.failure("p", FAILED).state == "closed"
