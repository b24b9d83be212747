"""Who waits for an answer gets slots of background work, and of a key that floods; what gave its slots ends whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.access.api_keys import Credentials
from gateway.jobs.record import Job
from gateway.store import keys
from tests.stack import Stack, Stream, chat, eventually, running
from workers.engines.fake import fake_token

SLOTS, LONG, SHORT = 4, 200, 10


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("p"), {"fake": {"step_s": 0.02}}, max_batch_size=SLOTS) as stack:
        yield stack


def background(stack: Stack, *, tokens: int = LONG) -> str:
    """A job for which nobody waits."""
    body = {"messages": [{"role": "user", "content": "x"}], "max_tokens": tokens}
    with stack.client() as client:
        answer = client.post("/models/fake/chat/completions", json=body, headers={"Prefer": "respond-async"})
    return str(answer.json()["data"]["job_id"])


def record(stack: Stack, job_id: str) -> Job:
    found = stack.store.read(job_id)
    assert found is not None
    return found


def whole(stack: Stack, job_id: str, tokens: int) -> Job:
    """Its record, when it has ended with every token, each once, as if nothing had happened."""
    job: Job = eventually(lambda: (j := record(stack, job_id)).state.ended and j, f"{job_id} ends")
    ids = [i for event in stack.journal(job_id) for i in event.body.get("ids", ())]
    assert ids == [fake_token(f"{job_id}/0", i) for i in range(tokens)]
    assert (job.crashes, job.losses) == (0, 0), "it has not crashed, and was not lost"
    return job


def begun(stack: Stack, *job_ids: str) -> None:
    """Wait until these have made some tokens."""
    eventually(lambda: all(len(stack.journal(job_id)) > 3 for job_id in job_ids), "they run")


def test_background_work_gives_its_slots_to_those_who_wait_and_goes_on_later(stack: Stack) -> None:
    patient = [background(stack) for _ in range(SLOTS)]
    begun(stack, *patient)
    urgent = [chat(stack, max_tokens=SHORT).join() for _ in range(3)]
    assert not any(record(stack, job_id).state.ended for job_id in patient)
    jobs = [whole(stack, job_id, LONG) for job_id in patient]
    assert sum(job.preemptions for job in jobs) >= 1
    assert all(job.attempts == job.preemptions + 1 for job in jobs)
    for stream in urgent:
        assert whole(stack, stream.job_id, SHORT).attempts == 1
    assert stack.redis.zcard(f"{keys.lines('fake')}:first") == 0


def test_a_key_that_floods_gives_a_slot_to_a_key_with_one_request(stack: Stack) -> None:
    _, secret = Credentials(stack.redis).create("another")
    flood = [chat(stack, max_tokens=LONG // 4) for _ in range(5 * SLOTS)]
    eventually(lambda: all(stream.job_id for stream in flood), "all are there")
    eventually(lambda: len(stack.running()) == SLOTS, "it holds all slots")
    with stack.client(secret) as client:
        body = {"messages": [{"role": "user", "content": "x"}], "max_tokens": SHORT}
        answer = client.post("/models/fake/chat/completions", json=body)
    one = record(stack, answer.headers["X-Job-Id"])
    jobs = [whole(stack, stream.join().job_id, LONG // 4) for stream in flood]
    assert sum(job.finished_at < one.finished_at for job in jobs) <= 2 * SLOTS, "it has not waited for all of them"


@pytest.mark.parametrize(("settings", "times"), [({"max_preemptions": 1}, 1), ({"preemption": False}, 0)])
def test_a_job_is_preempted_as_often_as_the_settings_say(tmp_path: Path, settings: dict[str, int], times: int) -> None:
    with running(tmp_path, {"fake": {"step_s": 0.02}}, max_batch_size=1, **settings) as stack:
        patient = background(stack)
        begun(stack, patient)
        urgent: list[Stream] = [chat(stack, max_tokens=SHORT).join() for _ in range(times)]
        begun(stack, patient)
        late = chat(stack, max_tokens=SHORT).join()
        job = whole(stack, patient, LONG)
        assert job.preemptions == times
        assert all(whole(stack, stream.job_id, SHORT).finished_at < job.finished_at for stream in urgent)
        assert whole(stack, late.job_id, SHORT).started_at >= job.finished_at, "now it keeps its slot"
