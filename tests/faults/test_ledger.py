"""Limits and the ledger under load and under fire: two web processes, twenty keys, a thousand requests at once.

What the clients were told, what the jobs' records say, and what the ledger and the limits hold must be one.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import httpx
import psutil
import pytest

from gateway.access.api_keys import Credentials, KeyRecord
from gateway.jobs.record import Job
from gateway.store import keys
from tests.stack import Stack, eventually, free_port, running
from workers.engines.fake import fake_token

#: One window of the limits, and how sure a client can be of when a request was charged, in ms.
MINUTE, UNSURE = 60_000, 5_000


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("l"), {"fake": {"step_s": 0.005}}, grace_s=1.0, queue_limit=5_000) as stack:
        start_second_web(stack)
        yield stack


def start_second_web(stack: Stack) -> None:
    stack.second = replace(stack.settings, http_port=free_port())  # type: ignore[attr-defined]
    stack.start("web-2", settings=stack.second)  # type: ignore[attr-defined]
    eventually(lambda: answers(urls(stack)[1]), "the second web process answers")


def urls(stack: Stack) -> list[str]:
    return [f"http://127.0.0.1:{port}" for port in (stack.settings.http_port, stack.second.http_port)]  # type: ignore[attr-defined]


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health/live").status_code == 200
    except httpx.TransportError:
        return False


@dataclass
class Key:
    """A key, and the requests that it sends."""

    record: KeyRecord
    secret: str
    body: dict[str, Any]

    @classmethod
    def make(cls, stack: Stack, *, prompt: str = "abc", max_tokens: int, requests: int = 0, tokens: int = 0) -> Key:
        limits = {"requests_per_minute": requests, "tokens_per_minute": tokens}
        return cls(*Credentials(stack.redis).create("load", **limits), {"prompt": prompt, "max_tokens": max_tokens})


@dataclass
class Answer:
    """What a client got. `status` 0: the connection broke."""

    key: Key
    status: int = 0
    reason: str = ""
    retry_after: str = ""
    job_id: str = ""
    text: str = ""
    usage: dict[str, int] | None = None

    @property
    def whole(self) -> bool:
        """Whether it is exactly what the engine makes for this job."""
        tokens = [fake_token(f"{self.job_id}/0", i) for i in range(self.key.body["max_tokens"])]
        return self.text == "".join(f" w{token}" for token in tokens)


async def ask(client: httpx.AsyncClient, url: str, key: Key, *, stream: bool) -> Answer:
    """Send one request, and read all of its answer."""
    answer = Answer(key)
    body = {**key.body, "stream": stream, "stream_options": {"include_usage": True}} if stream else key.body
    request = client.build_request(
        "POST", f"{url}/models/fake/completions", json=body, headers={"Authorization": f"Bearer {key.secret}"}
    )
    try:
        response = await client.send(request, stream=True)
        answer.job_id = response.headers.get("X-Job-Id", "")
        answer.retry_after = response.headers.get("Retry-After", "")
        text = (await response.aread()).decode()
    except httpx.TransportError:
        return answer
    answer.status = response.status_code
    if answer.status != 200:
        answer.reason = response.json()["data"]["reason"]
        return answer
    lines = [line[6:] for line in text.splitlines() if line.startswith("data: {")]
    for chunk in map(json.loads, lines) if stream else [response.json()["data"]]:
        answer.text += "".join(choice["text"] for choice in chunk["choices"])
        answer.usage = chunk.get("usage") or answer.usage
    return answer


async def burst(to: Sequence[str], senders: Sequence[Key], each: int, done: list[Answer]) -> None:
    """Send all requests at once, in turn over the web processes; every third is a stream."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    async with httpx.AsyncClient(timeout=120, limits=limits, trust_env=False) as client:
        calls = [ask(client, to[i % len(to)], key, stream=i % 3 == 0) for i in range(each) for key in senders]
        for answer in asyncio.as_completed(calls):
            done.append(await answer)


def jobs_of(stack: Stack, key: Key) -> list[Job]:
    """All jobs that were made for a key, whoever heard of them."""
    ids = stack.redis.zrange(keys.owned(key.record.id), 0, -1)
    return [job for job in stack.store.read_many(ids) if job]


def check_ledger(stack: Stack, key: Key) -> None:
    """The ledger of a key is the sum over its jobs, and all of them have ended."""
    jobs = jobs_of(stack, key)
    assert all(job.state.ended for job in jobs)
    with stack.client(key.secret) as client:
        total = client.get("/usage").json()["data"]["total"]
    names = ("prompt_tokens", "completion_tokens", "total_tokens")
    assert {name: total[name] for name in names} == {name: sum(job.usage[name] for job in jobs) for name in names}
    assert total["jobs"] == len(jobs)


def check_limits(stack: Stack, key: Key) -> None:
    """What is left to a key is its limit less what its jobs of the last minute used, to the token and the request."""
    now = stack.store.clock.now_ms()
    jobs = [job for job in jobs_of(stack, key) if job.created_at > now - MINUTE - UNSURE]
    sure = [job for job in jobs if job.created_at > now - MINUTE + UNSURE]
    with stack.client(key.secret) as client:
        headers = client.post("/models/fake/completions", json={"prompt": "abc", "max_tokens": 1}).headers
    mine = "X-Job-Id" in headers
    if key.record.requests_per_minute:
        used = int(headers["x-ratelimit-limit-requests"]) - int(headers["x-ratelimit-remaining-requests"]) - mine
        assert len(sure) <= used <= len(jobs)
    if key.record.tokens_per_minute:
        used = int(headers["x-ratelimit-limit-tokens"]) - int(headers["x-ratelimit-remaining-tokens"]) - 2 * mine
        assert sum(job.usage["total_tokens"] for job in sure) <= used <= sum(job.usage["total_tokens"] for job in jobs)


def most_in_a_minute(jobs: Sequence[Job]) -> int:
    """The largest number of jobs that were made within any 60 s (less how sure we are)."""
    times = sorted(job.created_at for job in jobs)
    return max(sum(start <= time < start + MINUTE - UNSURE for time in times) for start in times)


def wait_settled(stack: Stack, senders: Sequence[Key]) -> None:
    def settled() -> bool:
        return not any(stack.redis.scard(keys.open_jobs(key.record.id)) for key in senders)

    eventually(settled, "all jobs are settled")


def test_a_thousand_requests_of_twenty_keys(stack: Stack) -> None:
    """Each token-limited request reserves exactly what it will use, so exactly 20 of 50 fit, whatever the order."""
    by_requests = [Key.make(stack, max_tokens=6, requests=30) for _ in range(8)]
    by_tokens = [Key.make(stack, max_tokens=9, tokens=205) for _ in range(8)]
    unlimited = [Key.make(stack, max_tokens=5) for _ in range(4)]
    senders = [*by_requests, *by_tokens, *unlimited]
    done: list[Answer] = []
    asyncio.run(burst(urls(stack), senders, 50, done))
    wait_settled(stack, senders)
    assert len(done) == 1_000
    for group, fits, reason in (
        (by_requests, 30, "rate_limit_requests"),
        (by_tokens, 20, "rate_limit_tokens"),
        (unlimited, 50, ""),
    ):
        for key in group:
            mine = [answer for answer in done if answer.key is key]
            taken = [answer for answer in mine if answer.status == 200]
            refused = [answer for answer in mine if answer.status != 200]
            assert all(answer.whole for answer in taken)
            assert len(taken) >= fits
            assert most_in_a_minute(jobs_of(stack, key)) == fits
            assert {answer.job_id for answer in taken} == {job.id for job in jobs_of(stack, key)}
            assert {(answer.status, answer.reason) for answer in refused} == ({(429, reason)} if reason else set())
            assert all(1 <= int(answer.retry_after) <= 60 for answer in refused)
            assert sum(answer.usage["total_tokens"] for answer in taken if answer.usage) == sum(
                job.usage["total_tokens"] for job in jobs_of(stack, key)
            )
            check_ledger(stack, key)
            check_limits(stack, key)


def test_killed_model_worker(stack: Stack) -> None:
    """Every request is answered whole, and counted once, also if a worker died between its end and its settling."""
    senders = [Key.make(stack, max_tokens=60, requests=1_000, tokens=100_000) for _ in range(10)]
    done: list[Answer] = []

    async def under_fire() -> None:
        load = asyncio.create_task(burst(urls(stack), senders, 20, done))
        for share in (0.2, 0.6):
            while len(done) < share * 200:
                await asyncio.sleep(0.01)
            stack.wait_active(1)
            os.kill(stack.replica().pid, signal.SIGKILL)
        await load

    asyncio.run(under_fire())
    wait_settled(stack, senders)
    assert [answer.status for answer in done] == [200] * 200
    assert all(answer.whole for answer in done)
    assert any(job.attempts > 1 for key in senders for job in jobs_of(stack, key))
    for key in senders:
        check_ledger(stack, key)
        check_limits(stack, key)


def test_killed_web_process(stack: Stack) -> None:
    """Its clients are cut off; its jobs are cancelled and counted with what they had; its reservations come back.

    It dies with jobs that run, and in the middle of making many more.
    """
    stack.wait_active(1)
    endless = [Key.make(stack, max_tokens=100_000, tokens=1_000_000) for _ in range(2)]
    senders = [Key.make(stack, max_tokens=20, requests=1_000, tokens=100_000) for _ in range(10)]
    done: list[Answer] = []
    web = psutil.Process(stack.processes["web-2"].pid)

    async def under_fire() -> None:
        doomed = asyncio.create_task(burst(urls(stack)[1:], endless, 4, []))
        while not all(len(jobs_of(stack, key)) == 4 and jobs_of(stack, key)[0].seq > 2 for key in endless):
            await asyncio.sleep(0.02)
        load = asyncio.create_task(burst(urls(stack), senders, 20, done))
        while not any(jobs_of(stack, key) for key in senders):
            await asyncio.sleep(0.005)
        for process in [web, *web.children()]:
            process.kill()
        await asyncio.gather(doomed, load)

    asyncio.run(under_fire())
    stack.processes["web-2"].wait(60)
    wait_settled(stack, [*endless, *senders])
    assert all(answer.whole for answer in done if answer.status == 200)
    assert sum(answer.status == 200 for answer in done) >= 100
    assert {job.state.value for key in endless for job in jobs_of(stack, key)} == {"cancelled"}
    assert any(job.usage["completion_tokens"] for key in endless for job in jobs_of(stack, key))
    for key in [*endless, *senders]:
        check_ledger(stack, key)
        eventually(lambda key=key: limits_hold(stack, key), "what was reserved for jobs that were never made is back")


def limits_hold(stack: Stack, key: Key) -> bool:
    try:
        check_limits(stack, key)
    except AssertionError:
        return False
    return True
