"""Counters of jobs are exactly what clients have seen, whoever dies meanwhile."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from gateway.store import keys
from tests.metrics import Scrape
from tests.stack import Stack, Stream, chat, eventually, running

CLIENTS = 16
SECRET = "a prompt that no metric quotes"


@pytest.fixture
def stack(tmp_path: Any) -> Iterator[Stack]:
    with running(tmp_path, {"fake": {"step_s": 0.005}}, lease_s=2.0, max_batch_size=8) as stack:
        yield stack


class Seen:
    """What the clients of some streams have seen."""

    def __init__(self) -> None:
        self.ends: Counter[str] = Counter()
        self.prompt = self.answer = 0
        self._lock = threading.Lock()

    def note(self, stack: Stack, stream: Stream) -> None:
        """One stream has ended, with what its usage says."""
        with stack.client() as client:
            job = client.get(f"/jobs/{stream.job_id}").json()["data"]
        with self._lock:
            self.ends[job["status"]] += 1
            self.prompt += job["usage"]["prompt_tokens"]
            self.answer += job["usage"]["completion_tokens"]
        if job["status"] == "completed":
            assert len(stream.text.split()) == job["usage"]["completion_tokens"] == stream.body["max_tokens"]


def ask_many(stack: Stack, seen: Seen, count: int, seed: int) -> None:
    """One after another; every eighth is cancelled in mid-stream."""
    choose = random.Random(seed)
    for i in range(count):
        stream = chat(stack, content=SECRET, max_tokens=choose.randrange(20, 120))
        if i % 8 == 7:
            eventually(lambda stream=stream: len(stream.ids) > 2, "it runs")
            with stack.client() as client:
                client.delete(f"/jobs/{stream.job_id}")
        stream.join()
        seen.note(stack, stream)


def kill_one(stack: Stack, choose: random.Random) -> None:
    """The engine, the model worker or the web process, while streams run."""
    eventually(lambda: sum(stack.redis.hexists(keys.job(i), "first_at") for i in stack.running()) > 2, "some answer")
    victim = choose.choice(("engine", "worker", "web"))
    if victim == "web":
        serving = eventually(psutil.Process(stack.processes["web"].pid).children, "gunicorn has a process that serves")
        serving[0].kill()  # it starts another
        return
    before = stack.replica()
    psutil.Process(before.pid if victim == "worker" else before.engine_pid).kill()

    def another() -> bool:
        found = stack.registry.replicas("fake")
        return any(one.status == "active" and one.engine_pid not in (0, before.engine_pid) for one in found)

    eventually(another, "another serves")


@pytest.mark.parametrize(
    ("jobs", "kills"), [(160, 2), pytest.param(2000, 10, marks=[pytest.mark.slow, pytest.mark.timeout(1200)])]
)
def test_counters_are_what_clients_have_seen(stack: Stack, jobs: int, kills: int) -> None:
    seen, choose = Seen(), random.Random(jobs)
    threads = [threading.Thread(target=ask_many, args=(stack, seen, jobs // CLIENTS, seed)) for seed in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for _ in range(kills):
        kill_one(stack, choose)
    for thread in threads:
        thread.join(900)
        assert not thread.is_alive()
    eventually(lambda: not stack.running(), "all are settled")
    with stack.client() as client:
        found = Scrape(client)
        assert SECRET not in client.get("/metrics").text
    assert sum(seen.ends.values()) == jobs
    by_end = {"completed": "done", "cancelled": "cancelled", "failed": "failed"}
    assert found.series("headrace_jobs_total", model="fake", kind="chat") == {
        (by_end[word],): count for word, count in seen.ends.items()
    }
    assert found.total("headrace_tokens_total", of="prompt") == seen.prompt
    assert found.total("headrace_tokens_total", of="answer") == seen.answer
    assert found.total("gen_ai_server_request_duration_seconds_count") == jobs
    assert found.total("gen_ai_server_time_per_output_token_seconds_count") == seen.ends["completed"]
    assert found.total("headrace_queue_wait_seconds_count") == jobs
    assert found.total("gen_ai_server_time_to_first_token_seconds_count") == jobs
    assert found.total("headrace_lost_tokens_total") == 0
    assert found.total("headrace_resumes_total") > 0
    assert found.total("headrace_replayed_tokens_total") > 0
    assert stack.redis.hlen(keys.METRICS) < 100
