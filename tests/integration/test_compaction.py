"""The journal of a job that ended a while ago is smaller, and reads the same."""

from __future__ import annotations

from contextlib import closing

import pytest
import redis

from gateway.jobs.compaction import compact_ended
from gateway.jobs.events import Append, Event
from gateway.jobs.journal import fold
from gateway.jobs.journal_store import AppendVerdict
from gateway.jobs.record import Job, JobState, new_claim_id, new_job_id
from gateway.jobs.store import Ended, JobStore
from gateway.store import keys
from gateway.store.codec import dumps
from gateway.views.text import answer, chunks
from gateway.watching.hub import Hub

MODEL, TOKENS = "m", 40


@pytest.fixture
def store(redis_client: redis.Redis) -> JobStore:
    return JobStore(redis_client)


@pytest.fixture
def job(store: JobStore) -> Job:
    """A job with two choices that has ended."""
    request = {"messages": [], "n": 2, "logprobs": True}
    created = store.create(Job(new_job_id("chat"), JobState.QUEUED, "chat", MODEL, "key", request), ttl_ms=60_000).job
    job = store.claim(created.id, model=MODEL, owner="w", claim=new_claim_id())
    assert job is not None
    bodies: list[dict[str, object]] = [{"type": "started", "prompt_tokens": 3}]
    bodies += [
        {"type": "delta", "ids": [i], "index": i % 2, "text": f" w{i}", "lp": [[f" w{i}", -0.5]]} for i in range(TOKENS)
    ]
    bodies += [{"type": "delta", "index": i, "ids": [], "finish": "length"} for i in (0, 1)]
    bodies += [{"type": "done", "usage": {}}]
    events = [dumps({**body, "c": job.claim}) for body in bodies]
    assert store.journals.append([Append(job.id, job.claim, 1, events, JobState.DONE)])[0].verdict is AppendVerdict.OK
    store.finalize(Ended(job, JobState.DONE, {}))
    return job


def compact(store: JobStore) -> int:
    """Of jobs that have ended until now: when that was is estimated, and may lie a little ahead."""
    return compact_ended(store, MODEL, before_ms=store.clock.now_ms() + 10_000)


def watched(store: JobStore, job: Job, after: int) -> list[Event]:
    with closing(Hub(store.redis, store, grace_s=2)) as hub:
        return [e for batch in hub.watch(job.id, after=after, claim=job.claim).events() for e in batch]


def test_the_answer_stays_and_the_memory_shrinks(store: JobStore, job: Job) -> None:
    before = answer(job, store.journals.read(job.id))
    memory = store.redis.memory_usage(keys.events(job.id))
    assert compact(store) == 1
    assert answer(job, store.journals.read(job.id)) == before
    assert before["usage"] == {"prompt_tokens": 3, "completion_tokens": TOKENS, "total_tokens": TOKENS + 3}
    assert store.redis.memory_usage(keys.events(job.id)) < memory
    assert 0 < store.redis.pttl(keys.events(job.id)) <= 60_000
    assert compact(store) == 0


def test_a_stream_from_the_start_says_the_same(store: JobStore, job: Job) -> None:
    before = fold(watched(store, job, 0), num_choices=2)
    compact(store)
    events = watched(store, job, 0)
    assert [e.type.value for e in events] == ["started", "snapshot", "done"]
    texts = ["", ""]
    for chunk in (chunk for event in events for chunk in chunks(job, event)):
        for choice in chunk["choices"]:
            texts[choice["index"]] += choice["delta"].get("content", "")
    assert texts == [choice.text for choice in before]


def test_a_cursor_in_the_middle_gets_the_whole_text_to_replace_what_it_had(store: JobStore, job: Job) -> None:
    texts = {str(i): choice.text for i, choice in enumerate(fold(store.journals.read(job.id), num_choices=2))}
    compact(store)
    events = watched(store, job, 7)
    assert [e.type.value for e in events] == ["compacted", "done"]
    told, *rest = chunks(job, events[0])
    assert told["snapshot"] == {"seq": events[0].seq, "text": texts}
    choices = [choice for chunk in rest for choice in chunk["choices"]]
    assert [(choice["delta"], choice["finish_reason"]) for choice in choices] == [({}, "length")] * 2
    assert sum(len(choice["logprobs"]["content"]) for choice in choices) == TOKENS


@pytest.mark.parametrize("from_end", [0, 1])
def test_a_cursor_at_the_end_gets_nothing_twice(store: JobStore, job: Job, from_end: int) -> None:
    last = store.journals.read(job.id)[-1].seq
    compact(store)
    assert [e.type.value for e in watched(store, job, last - from_end)] == ["done"][:from_end]


def test_a_running_job_is_left_alone(store: JobStore, job: Job) -> None:
    running = store.create(Job(new_job_id("chat"), JobState.QUEUED, "chat", MODEL, "key", {}), ttl_ms=60_000).job
    claimed = store.claim(running.id, model=MODEL, owner="w", claim=new_claim_id())
    assert claimed is not None
    deltas = [dumps({"type": "delta", "c": claimed.claim, "ids": [i]}) for i in range(9)]
    store.journals.append([Append(running.id, claimed.claim, 1, deltas)])
    assert not store.journals.replace(running.id, store.journals.read(running.id)[-1:])
    assert len(store.journals.read(running.id)) == 9
