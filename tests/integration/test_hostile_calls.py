"""The gRPC face under attack, what one key may have open at both, and events that can't be written."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

import grpc
import httpx
import pytest

from gateway.access.api_keys import Credentials
from gateway.access.bootstrap import bootstrap
from gateway.jobs.events import Append
from gateway.jobs.record import Job, JobState, new_claim_id, new_job_id
from gateway.store import keys
from gateway.store.codec import dumps
from gateway.store.connection import NOT_NOW, connect
from tests.rpc import Client, chat_request, client, details, start_rpc
from tests.stack import KEY, Stack, chat, eventually, running
from web.rpc.stubs import model_pb2 as pb

PATH = "/models/fake/chat/completions"
LONG = 90_000
OPEN = 3


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    bounds = {"key_max_streams": OPEN, "grpc_key_max_calls": OPEN}
    with running(
        tmp_path_factory.mktemp("s"), {"fake": {"step_s": 0.01}}, grace_s=1.0, max_body_bytes=2**20, **bounds
    ) as stack:
        start_rpc(stack)
        yield stack


def other_key(stack: Stack, **limits: Any) -> str:
    return Credentials(stack.redis).create("hostile", **limits)[1]


def refused(answer: Any) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        answer()
    return caught.value


def reason(error: grpc.RpcError) -> str:
    return str(details(error)["ErrorInfo"].reason)


@pytest.mark.parametrize(
    "request_",
    [
        pb.ChatCompletionRequest(model_id="fake", messages=[pb.Message()] * 200_000),
        pb.ChatCompletionRequest(model_id="fake", messages=[pb.Message(role="user", content="x")] * 40_000),
        pb.CompletionRequest(model_id="fake", prompts=["x"] * 100_000),
        pb.EmbeddingsRequest(model_id="fake", input=[""] * 200_000),
        pb.ChatCompletionRequest(model_id="x" * 900_000),
        pb.ChatCompletionRequest(model_id="fake", messages=[pb.Message(role="x" * 900_000, content="y")]),
    ],
    ids=range(6),
)
def test_a_wrong_message_is_cheap_to_refuse(stack: Stack, rpc: Client, request_: Any) -> None:
    method = {"Chat": "CreateChatCompletion", "Comp": "CreateCompletion", "Embe": "CreateEmbeddings"}
    pid = stack.processes["rpc"].pid
    error = refused(lambda: rpc.call(method[type(request_).__name__[:4]], request_))
    assert error.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)
    assert len(error.details()) < 2_000
    assert rpc.call("CreateChatCompletion", chat_request()).choices
    assert stack.processes["rpc"].pid == pid
    assert stack.processes["rpc"].poll() is None


def test_one_key_can_not_close_grpc_for_the_others(stack: Stack, rpc: Client) -> None:
    with client(stack, other_key(stack)) as hostile:
        streams = [hostile.call("CreateChatCompletionStream", chat_request(max_tokens=LONG)) for _ in range(OPEN)]
        for stream in streams:
            next(stream)
        error = refused(lambda: next(hostile.call("CreateChatCompletionStream", chat_request())))
        assert (error.code(), reason(error)) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "too_many_streams")
        assert rpc.call("CreateChatCompletion", chat_request()).choices
        streams.pop().cancel()

        def again() -> bool:
            with contextlib.suppress(grpc.RpcError):
                return bool(hostile.call("CreateChatCompletion", chat_request()).choices)
            return False

        eventually(again, "the place is free again")
        for stream in streams:
            stream.cancel()


def test_nor_rest(stack: Stack) -> None:
    secret = other_key(stack)
    body = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 1}
    with stack.client(secret) as hostile, stack.client() as other, contextlib.ExitStack() as opened:
        streams = [
            opened.enter_context(hostile.stream("POST", PATH, json={**body, "max_tokens": LONG, "stream": True}))
            for _ in range(OPEN)
        ]
        answer = hostile.get("/models")
        assert (answer.status_code, answer.json()["data"]["reason"]) == (429, "too_many_streams")
        assert int(answer.headers["Retry-After"]) >= 1
        assert other.post(PATH, json=body).status_code == 200
        streams[0].close()
        eventually(lambda: hostile.post(PATH, json=body).status_code == 200, "the place is free again")
    for _ in range(3 * OPEN):  # refused requests, with and without a body, keep no place
        with httpx.Client(base_url=stack.url, headers={"Authorization": f"Bearer {secret}"}) as hostile:
            eventually(lambda: hostile.post(PATH, content=b"{").status_code == 400, "a place is free")


def test_wrong_messages_count_in_the_limits(stack: Stack) -> None:
    with client(stack, other_key(stack, requests_per_minute=2)) as hostile:
        wrong = pb.ChatCompletionRequest(model_id="fake")
        codes = [refused(lambda: hostile.call("CreateChatCompletion", wrong)) for _ in range(3)]
    assert [reason(error) for error in codes] == ["invalid_request", "invalid_request", "rate_limit_requests"]
    assert dict(codes[-1].initial_metadata())["x-ratelimit-remaining-requests"] == "0"


def test_a_key_that_is_bound_to_models_knows_no_others(stack: Stack) -> None:
    secret = other_key(stack, models=["fake"], scopes=["inference", "deploy"])
    with client(stack, secret) as bound:
        listed = bound.call("ListModels", pb.ListModelsRequest())
        assert [model.id for model in listed.models] == ["fake"]
        deploy = pb.DeployLocalModelRequest(model_type="smollm2", model_size="135m")
        for ask in (
            lambda: bound.call("GetModel", pb.GetModelRequest(model_id="smollm2-135m")),
            lambda: bound.call("DeployLocalModel", deploy),
            lambda: bound.call("UnloadLocalModel", pb.UnloadLocalModelRequest(model_id="smollm2-135m")),
            lambda: bound.call("ScaleLocalModel", pb.ScaleLocalModelRequest(model_id="smollm2-135m", replicas=1)),
        ):
            assert reason(refused(ask)) == "model_not_allowed"
        unknown = refused(lambda: bound.call("GetModel", pb.GetModelRequest(model_id="nope")))
        assert unknown.details() == "There is no model 'nope'. Known models: fake."


# -- events that can't be written


#: Each with the status of the whole answer: it can't be made, or without what is odd.
ODD_EVENTS: list[tuple[dict[str, Any], int]] = [
    ({"type": "delta", "text": {"not": "text"}}, 500),
    ({"type": "delta", "index": "x", "text": "a"}, 500),
    ({"type": "delta", "index": 10**15, "text": "a"}, 500),
    ({"type": "delta", "text": "a", "finish": {"x": 1}}, 500),
    ({"type": "delta", "lp": "x", "text": "a"}, 500),
    ({"type": "delta", "tool_calls": 5}, 500),
    ({"type": "delta", "tool_calls": [{"index": None, "function": 3}]}, 200),
]


def journal(stack: Stack, body: dict[str, Any]) -> Job:
    """A running job whose journal holds an odd event behind a good one."""
    key = bootstrap(Credentials(stack.redis), KEY)
    job = Job(new_job_id("chat"), JobState.QUEUED, "chat", "elsewhere", key.id, {"messages": []})
    stack.store.create(job, ttl_ms=60_000)
    claim = new_claim_id()
    assert stack.store.claim(job.id, model="elsewhere", owner="w", claim=claim)
    events = [
        {"type": "started", "prompt_tokens": 1},
        {"type": "delta", "text": "good"},
        body,
        {"type": "done", "usage": {}},
    ]
    stack.store.journals.append(
        [Append(job.id, claim, 1, [dumps({"c": claim, **event}) for event in events], JobState.DONE)]
    )
    stack.redis.zrem(keys.queued("elsewhere"), job.id)
    return job


@pytest.mark.parametrize(("body", "status"), ODD_EVENTS, ids=range(len(ODD_EVENTS)))
def test_an_event_that_can_not_be_written_ends_its_stream_alone(
    stack: Stack, rpc: Client, body: dict[str, Any], status: int
) -> None:
    job = journal(stack, body)
    before = {name: process.pid for name, process in stack.processes.items()}
    bystander = chat(stack, max_tokens=LONG)
    eventually(lambda: bystander.text, "another stream has begun")
    with stack.client() as rest, rest.stream("GET", f"/jobs/{job.id}/events") as response:
        assert response.read(), "it ends, and says something"
    with contextlib.suppress(grpc.RpcError):
        list(rpc.call("WatchJob", pb.WatchJobRequest(job_id=job.id)))
    with stack.client() as rest:
        assert rest.get(f"/jobs/{job.id}").status_code == status
    with contextlib.suppress(grpc.RpcError):
        rpc.call("GetJob", pb.GetJobRequest(job_id=job.id))
    assert rpc.call("CreateChatCompletion", chat_request()).choices
    seen = len(bystander.ids)
    eventually(lambda: len(bystander.ids) > seen, "it goes on")
    with stack.client() as rest:
        rest.delete(f"/jobs/{bystander.job_id}")
    bystander.join()
    assert (bystander.error, bystander.reconnects) == (None, 0)
    assert {name: process.pid for name, process in stack.processes.items() if process.poll() is None} == before


def test_the_embedded_redis_has_a_bound_and_evicts_nothing(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("r")
    with contextlib.closing(Stack(folder, redis_url="", redis_memory_bytes=300 * 2**20)) as small:
        small.start("redis", [sys.executable, "-m", "gateway.store.embedded"])
        with contextlib.closing(connect(small.settings)) as redis:
            eventually(lambda: _config(redis), "Redis answers")
            found = _config(redis)
            assert (found["maxmemory"], found["maxmemory-policy"]) == (str(300 * 2**20), "noeviction")


def _config(redis: Any) -> dict[str, str]:
    with contextlib.suppress(NOT_NOW):
        return dict(redis.config_get("maxmemory*")) if redis.ping() else {}
    return {}
