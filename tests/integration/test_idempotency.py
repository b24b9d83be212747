"""Idempotency keys over two web processes: one job for the same key and body, whoever asks, and whoever dies."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from gateway.access.api_keys import Credentials
from gateway.context import Gateway
from gateway.inference.idempotency import IdempotencyToken
from tests.stack import KEY, Stack, eventually, free_port, running
from workers.engines.fake import fake_token

PATH = "/models/fake/chat/completions"
BODY: dict[str, Any] = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 20}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("i"), {"fake": {"step_s": 0.01}}, grace_s=1.0) as stack:
        yield stack


@pytest.fixture(scope="module")
def urls(stack: Stack) -> list[str]:
    """Two web processes over one Redis."""
    other = replace(stack.settings, http_port=free_port())
    stack.start("web-2", settings=other)
    urls = [stack.url, f"http://127.0.0.1:{other.http_port}"]
    eventually(lambda: _up(urls[1]), "the second web process answers")
    return urls


def _up(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health/live").status_code == 200
    except httpx.TransportError:
        return False


def post(url: str, key: str, body: Any = BODY, secret: str = KEY, **headers: str) -> httpx.Response:
    headers = {"Authorization": f"Bearer {secret}", "Idempotency-Key": key, **headers}
    return httpx.post(f"{url}{PATH}", json=body, headers=headers, timeout=60)


def content(response: httpx.Response) -> str:
    return str(response.json()["data"]["choices"][0]["message"]["content"])


def expected(job_id: str, count: int) -> str:
    return "".join(f" w{fake_token(f'{job_id}/0', i)}" for i in range(count))


def test_the_same_key_and_body_attach_to_the_finished_job(stack: Stack) -> None:
    first, again = post(stack.url, "finished"), post(stack.url, "finished")
    assert (first.status_code, again.status_code) == (200, 200)
    assert first.json()["data"] == again.json()["data"]
    assert first.headers["X-Job-Id"] == again.headers["X-Job-Id"]
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"


def test_a_stream_attaches_to_the_running_job_from_its_beginning(stack: Stack, client: httpx.Client) -> None:
    body = {**BODY, "stream": True, "max_tokens": 150}
    with client.stream("POST", PATH, json=body, headers={"Idempotency-Key": "stream"}) as first:
        lines = first.iter_lines()
        next(line for line in lines if line.startswith("data: {"))
        again = post(stack.url, "stream", body)
        rest = list(lines)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.headers["X-Job-Id"] == first.headers["X-Job-Id"]
    ids = [line for line in again.text.splitlines() if line.startswith("id: ")]
    assert ids[0].startswith("id: 1-")
    assert ids[-1] == [line for line in rest if line.startswith("id: ")][-1]
    assert again.text.rstrip().endswith("data: [DONE]")


def test_a_background_job_is_found_again(stack: Stack, client: httpx.Client) -> None:
    headers = {"Prefer": "respond-async"}
    first, again = (post(stack.url, "async", **headers) for _ in range(2))
    assert (first.status_code, again.status_code) == (202, 202)
    job_id = first.json()["data"]["job_id"]
    assert again.json()["data"]["job_id"] == job_id
    assert content(post(stack.url, "async")) == expected(job_id, 20)
    assert [entry["job_id"] for entry in client.get("/jobs").json()["data"]["jobs"]].count(job_id) == 1


def test_another_request_with_the_same_key_is_refused(stack: Stack) -> None:
    job_id = post(stack.url, "other").headers["X-Job-Id"]
    for path, body in (
        (PATH, {**BODY, "max_tokens": 21}),
        (PATH, {**BODY, "stream": True}),
        ("/models/fake/completions", {"prompt": "hello", "max_tokens": 20}),
    ):
        headers = {"Authorization": f"Bearer {KEY}", "Idempotency-Key": "other"}
        response = httpx.post(f"{stack.url}{path}", json=body, headers=headers)
        assert response.status_code == 422
        assert response.json()["data"]["reason"] == "idempotency_mismatch"
        assert job_id in response.json()["message"]


@pytest.mark.parametrize("key", ["", "with space", "x" * 256, "caf\u00e9"])
def test_a_key_that_is_none_is_refused(stack: Stack, key: str) -> None:
    headers = [("Authorization", f"Bearer {KEY}".encode()), ("Idempotency-Key", key.encode("latin-1"))]
    response = httpx.post(f"{stack.url}{PATH}", json=BODY, headers=headers)
    assert response.status_code == 422
    assert "1 to 255 visible ASCII" in response.json()["message"]


def test_keys_of_two_api_keys_are_apart(stack: Stack) -> None:
    _, secret = Credentials(stack.redis).create("other")
    first, second = post(stack.url, "mine"), post(stack.url, "mine", {**BODY, "max_tokens": 3}, secret=secret)
    assert second.status_code == 200
    assert first.headers["X-Job-Id"] != second.headers["X-Job-Id"]


def test_a_race_of_first_calls_makes_one_job(stack: Stack, urls: list[str]) -> None:
    record, secret = Credentials(stack.redis).create("racer", requests_per_minute=1)
    responses: list[httpx.Response] = []
    barrier = threading.Barrier(32)

    def call(url: str) -> None:
        barrier.wait()
        responses.append(post(url, "race", secret=secret))

    threads = [threading.Thread(target=call, args=(urls[i % 2],)) for i in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [response.status_code for response in responses] == [200] * 32
    job_id = responses[0].headers["X-Job-Id"]
    assert {content(response) for response in responses} == {expected(job_id, 20)}
    assert sum("Idempotent-Replayed" not in response.headers for response in responses) == 1
    assert stack.redis.zcard(f"hr:owned:{record.id}") == 1
    job = stack.store.read(job_id)
    assert job is not None
    assert job.attempts == 1


def test_a_caller_that_died_before_the_job_was_written_leaves_nothing_in_the_way(stack: Stack) -> None:
    """Its reservation is there, its record is not: the retry makes the job, and is not charged again."""
    record, secret = Credentials(stack.redis).create("dying", requests_per_minute=1, tokens_per_minute=500)
    gateway = Gateway.connect(stack.settings)
    request = {**BODY, "messages": [{"role": "user", "content": "hello"}], "priority": "interactive"}
    mark = IdempotencyToken.for_request("dead", key_id=record.id, kind="chat", model="fake", request=request)
    gateway.inference.limits.reserve(record, mark.job_id("chat"), 400)
    gateway.redis.close()
    response = post(stack.url, "dead", secret=secret)
    assert response.status_code == 200
    assert response.headers["X-Job-Id"] == mark.job_id("chat")
    assert response.headers["x-ratelimit-remaining-requests"] == "0"
    assert post(stack.url, "new", secret=secret).status_code == 429


def test_the_job_runs_on_when_its_client_leaves(stack: Stack, client: httpx.Client) -> None:
    """Who sends an idempotency key may come back for the answer, after any grace."""
    body = {**BODY, "max_tokens": 400}
    with pytest.raises(httpx.ReadTimeout):
        client.post(PATH, json=body, headers={"Idempotency-Key": "left"}, timeout=1)
    response = post(stack.url, "left", body)
    assert response.headers["Idempotent-Replayed"] == "true"
    assert content(response) == expected(response.headers["X-Job-Id"], 400)
