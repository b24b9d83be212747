"""What clients see while Redis is away, refuses, or their stream has been open for long: over REST, /v1 and gRPC."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import grpc
import httpx
import pytest
from google.rpc import error_details_pb2

from gateway.store import keys
from tests.rpc import Client, chat_request, client, details, start_rpc, text_of
from tests.stack import Stack, Stream, chat, eventually, free_port, running
from web.rpc.stubs import model_pb2 as pb
from workers.engines.fake import fake_token

MESSAGES = [{"role": "user", "content": "hello"}]
V1 = "/v1/chat/completions"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Two places, so that all others wait."""
    with running(
        tmp_path_factory.mktemp("w"), {"fake": {"step_s": 0.02}}, grace_s=20.0, lease_s=5.0, max_batch_size=2
    ) as stack:
        start_rpc(stack)
        yield stack


def expected(job_id: str, count: int) -> str:
    return "".join(f" w{fake_token(f'{job_id}/0', i)}" for i in range(count))


def in_thread(function: Callable[[], Any], results: list[Any]) -> threading.Thread:
    thread = threading.Thread(target=lambda: results.append(function()), daemon=True)
    thread.start()
    return thread


def test_nobody_who_waits_is_cut_when_redis_is_away(stack: Stack, rpc: Client) -> None:
    running = [chat(stack, max_tokens=300) for _ in range(2)]
    eventually(lambda: all(len(stream.ids) > 5 for stream in running), "two run")
    waiting = [chat(stack, max_tokens=10) for _ in range(4)]
    made = rpc.call("CreateJob", pb.CreateJobRequest(chat=chat_request(max_tokens=10)))
    watched: list[list[Any]] = []
    wholes: list[httpx.Response] = []
    streams: list[httpx.Response] = []
    body = {"messages": MESSAGES, "max_tokens": 10}

    def ask(path: str, **more: Any) -> httpx.Response:
        with stack.client() as http:
            return http.post(path, json={**body, **more})

    threads = [
        in_thread(lambda: list(rpc.call("WatchJob", pb.WatchJobRequest(job_id=made.job_id))), watched),
        in_thread(lambda: ask("/models/fake/chat/completions"), wholes),
        in_thread(lambda: ask(V1, model="fake", stream=True), streams),
    ]
    eventually(lambda: all(stream.comments for stream in waiting), "all wait")
    eventually(lambda: stack.redis.zcard(keys.queued("fake")) == 7, "the others wait too")
    stack.kill("redis")
    time.sleep(3)  # how long it is away is what this is about
    pings = [len(stream.comments) for stream in waiting]
    assert min(pings) > 1
    stack.start_redis()
    for stream in (*running, *waiting):
        stream.join()
        assert (stream.reconnects, stream.error) == (0, None)
        assert stream.text == expected(stream.job_id, stream.body["max_tokens"])
    for thread in threads:
        thread.join(60)
    chunks = [event.chat for event in watched[0] if event.HasField("chat")]
    assert text_of(chunks) == expected(made.job_id, 10)
    assert wholes[0].json()["data"]["choices"][0]["message"]["content"] == expected(wholes[0].headers["X-Job-Id"], 10)
    assert streams[0].text.endswith("data: [DONE]\n\n")
    assert '"error"' not in streams[0].text


@pytest.fixture
def limited(stack: Stack) -> Iterator[Stack]:
    """A second web and gRPC process, whose streams stay open for a second."""
    settings = replace(stack.settings, http_port=free_port(), grpc_port=free_port(), stream_limit_s=1.0)
    other = Stack.__new__(Stack)
    other.__dict__.update({**stack.__dict__, "settings": settings})
    stack.start("web-2", settings=settings)
    start_rpc(stack, "rpc-2", settings)
    eventually(other._ready, "the second web process is ready")
    yield other
    for name in ("web-2", "rpc-2"):
        stack.kill(name)


def test_a_stream_that_was_open_for_long_asks_to_reconnect(limited: Stack) -> None:
    """But for OpenAI's clients, which can't."""
    body = {"messages": MESSAGES, "max_tokens": 150}
    stream = Stream(limited, "/models/fake/chat/completions", body).start()
    with limited.client() as http:
        whole = http.post(V1, json={**body, "model": "fake", "stream": True})
    stream.join()
    assert stream.reconnects >= 2
    assert stream.text == expected(stream.job_id, 150)
    assert stream.seqs == sorted(set(stream.seqs))
    assert (stream.finish_reason, stream.error, stream.rewound) == ("length", None, 0)
    assert "retry:" not in whole.text
    assert whole.text.endswith("data: [DONE]\n\n")


def test_over_grpc_it_says_where_to_go_on(limited: Stack) -> None:
    chunks: list[Any] = []
    with client(limited) as rpc:
        with pytest.raises(grpc.RpcError) as caught:
            chunks.extend(iter(rpc.call("CreateChatCompletionStream", chat_request(max_tokens=120))))
        found = details(caught.value)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert found["ErrorInfo"].reason == "stream_limit"
        assert isinstance(found["RetryInfo"], error_details_pb2.RetryInfo)
        job_id = found["ErrorInfo"].metadata["job_id"]
        events = _follow(rpc, job_id)
    assert text_of([event.chat for event in events if event.HasField("chat")]) == expected(job_id, 120)


def _follow(rpc: Client, job_id: str) -> list[Any]:
    """As a client that comes back behind its cursor each time."""
    events: list[Any] = []
    cursor = pb.WatchJobRequest(job_id=job_id)
    while True:
        try:
            for event in rpc.call("WatchJob", cursor):
                events.append(event)
                if event.HasField("chat"):
                    cursor.from_seq, cursor.from_claim = event.chat.seq, event.chat.claim
            return events
        except grpc.RpcError as error:
            assert details(error)["ErrorInfo"].reason == "stream_limit"


def full(stack: Stack) -> Callable[[], object]:
    stack.redis.config_set("maxmemory", 1)
    return lambda: stack.redis.config_set("maxmemory", 0)


def read_only(stack: Stack) -> Callable[[], object]:
    stack.redis.replicaof("127.0.0.1", 1)
    return lambda: stack.redis.replicaof("no", "one")


def test_a_redis_that_refuses_is_told_as_unavailable(stack: Stack, rpc: Client) -> None:
    """And leaves no part of a job behind."""
    stack.wait_active(1)
    for refuse in (full, read_only):
        before = left(stack)
        accept = refuse(stack)
        try:
            responses, error = submit_everywhere(stack, rpc, refuse.__name__)
        finally:
            accept()
        for response in responses:
            assert response.status_code == 503, response.text
            assert int(response.headers["Retry-After"]) >= 1
        assert [response.json()["data"]["reason"] for response in responses[1:]] == ["store_unavailable"] * 4
        assert responses[0].json()["error"]["code"] == "store_unavailable"
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert details(error)["ErrorInfo"].reason == "store_unavailable"
        assert details(error)["RetryInfo"].retry_delay.ToMilliseconds() > 0
        assert left(stack) == before


def left(stack: Stack) -> dict[str, int]:
    """Records, and what is in the indexes of jobs."""
    found = dict.fromkeys(stack.redis.keys("hr:{*"), 1)
    found |= {name: stack.redis.zcard(name) for name in (keys.queued("fake"), *stack.redis.keys("hr:owned:*"))}
    return found | {name: stack.redis.scard(name) for name in stack.redis.keys("hr:open:*")}


def submit_everywhere(stack: Stack, rpc: Client, key: str) -> tuple[list[httpx.Response], Any]:
    path, body = "/models/fake/chat/completions", {"messages": MESSAGES, "max_tokens": 5}
    with stack.client() as http:
        responses = [
            http.post(V1, json={**body, "model": "fake"}),
            http.post(path, json=body),
            http.post(path, json={**body, "stream": True}),
            http.post(path, json=body, headers={"Prefer": "respond-async"}),
            http.post(path, json=body, headers={"Idempotency-Key": key}),
        ]
    with pytest.raises(grpc.RpcError) as caught:
        rpc.call("CreateChatCompletion", chat_request())
    return responses, caught.value
