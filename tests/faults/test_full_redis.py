"""The embedded Redis at its limit: it takes no new job and says so, loses none, and takes some again when it can."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest
import redis

from gateway.inference.service import MEMORY_LIMIT
from tests.stack import Stack, chat, eventually
from workers.engines.fake import fake_token

LIMIT, PIECE = 64 * 2**20, 2**18
TOKENS = 150
ASK = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 3}


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    with closing(Stack(tmp_path, redis_url="", redis_memory_bytes=LIMIT)) as stack:
        stack.start("redis", [sys.executable, "-m", "gateway.store.embedded"])
        stack.start_redis()
        stack.up_over_redis({"fake": {"step_s": 0.02}})
        yield stack


def fill(client: redis.Redis, share: float, piece: int = PIECE) -> None:
    """Until so much of its memory is used. Raises: OutOfMemoryError if it takes no more."""
    number = 0
    while client.info("memory")["used_memory"] < share * LIMIT:
        client.set(f"filler:{piece}:{number}", b"x" * piece)
        number += 1


def empty(client: redis.Redis) -> None:
    client.delete(*client.scan_iter("filler:*"))


def test_a_nearly_full_one_takes_no_new_job_and_those_that_run_end_well(stack: Stack) -> None:
    running = [chat(stack, max_tokens=TOKENS) for _ in range(4)]
    eventually(lambda: all(len(stream.ids) > 3 for stream in running), "they run")
    fill(stack.redis, MEMORY_LIMIT + 0.02)
    with stack.client() as client:
        refused = refusal(client)
        assert (refused.status_code, refused.json()["data"]["reason"]) == (503, "store_unavailable")
        assert "Redis is nearly full (5" in refused.json()["message"]
        assert "of 64 MiB), so no new job is taken" in refused.json()["message"]
        assert refused.headers["Retry-After"] == "5"
        for stream in running:
            assert whole(stream.join().text, stream.job_id)
        empty(stack.redis)
        eventually(lambda: client.post("/models/fake/chat/completions", json=ASK).is_success, "it is taken again")


def test_a_full_one_stops_all_and_loses_nothing(stack: Stack) -> None:
    """Nothing can be written at all; what runs waits, and goes on behind its last token."""
    running = [chat(stack, max_tokens=TOKENS) for _ in range(4)]
    eventually(lambda: all(len(stream.ids) > 3 for stream in running), "they run")
    before = stack.redis.dbsize()
    for piece in (PIECE, 2**10, 1):
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            fill(stack.redis, 2, piece)
    with stack.client() as client:
        refused = refusal(client)
        assert (refused.status_code, refused.json()["data"]["reason"]) == (503, "store_unavailable")
        assert refused.headers["Retry-After"]
    assert stack.redis.info("stats")["evicted_keys"] == 0
    assert stack.redis.dbsize() >= before
    empty(stack.redis)
    for stream in running:
        assert stream.join().error is None
        assert whole(stream.text, stream.job_id)
    with stack.client() as client:
        eventually(lambda: client.post("/models/fake/chat/completions", json=ASK).is_success, "it is taken again")


def refusal(client: httpx.Client) -> httpx.Response:
    """The first request that is refused: a process looks at Redis' memory twice a second."""

    def asked() -> httpx.Response | None:
        response = client.post("/models/fake/chat/completions", json=ASK)
        return response if response.is_error else None

    found: httpx.Response = eventually(asked, "one is refused")
    return found


def whole(text: str, job_id: str) -> bool:
    """Whether every token came once, in its place."""
    return text.split() == [f"w{fake_token(f'{job_id}/0', i)}" for i in range(TOKENS)]
