"""The queues as autoscalers see them: who waits for a model, how long, and what serves it; the same from both faces."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import grpc
import httpx
import pytest

from gateway.access.api_keys import Credentials
from gateway.inference.backlog import Backlog, backlogs
from gateway.store import keys
from tests.rpc import Client, start_rpc
from tests.stack import Stack, chat, eventually, running
from web.rpc.stubs import model_pb2 as pb

SLOTS = 2


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Its model is slow, and runs two sequences at once."""
    with running(
        tmp_path_factory.mktemp("q"), {"fake": {"step_s": 0.1}}, max_batch_size=SLOTS, background_share=0.0
    ) as stack:
        start_rpc(stack)
        yield stack


def queue(client: httpx.Client, model: str = "fake") -> dict[str, Any]:
    response = client.get("/queue", params={"model": model})
    assert response.status_code == 200, response.text
    (found,) = response.json()["data"]["models"]
    return dict(found)


def test_who_waits_is_counted_until_it_is_served(stack: Stack, client: httpx.Client, rpc: Client) -> None:
    idle = {"waiting": 0, "oldest_wait_s": 0.0, "first": [], "eta_s": 0.0}
    before = {"id": "fake", "interactive": idle, "background": idle, "replicas": 1, "slots": SLOTS, "running": 0}
    assert queue(client) == {**before, "demand": 0}
    streams = [chat(stack, max_tokens=2000) for _ in range(SLOTS)]
    eventually(lambda: queue(client)["running"] == SLOTS, "both slots are in use")
    waiting = [chat(stack, max_tokens=2000) for _ in range(3)]
    streams += waiting
    streams += [chat(stack, max_tokens=2000, priority="background") for _ in range(2)]
    eventually(lambda: all(stream.job_id for stream in streams), "all have been taken")
    found = queue(client)
    assert (found["interactive"]["waiting"], found["background"]["waiting"], found["demand"]) == (3, 2, SLOTS + 3)
    eventually(
        lambda: queue(client)["interactive"]["oldest_wait_s"] > found["interactive"]["oldest_wait_s"], "it grows"
    )
    over_rpc = rpc.call("GetQueue", pb.GetQueueRequest(model="fake")).models[0]
    assert (over_rpc.demand, over_rpc.interactive.waiting, over_rpc.background.waiting) == (SLOTS + 3, 3, 2)
    assert over_rpc.interactive.oldest_wait_s > 0
    assert {stream.job_id for stream in waiting} == set(found["interactive"]["first"])
    assert list(over_rpc.interactive.first) == found["interactive"]["first"]
    for stream in streams:
        assert client.delete(f"/jobs/{stream.job_id}").status_code == 200
    eventually(lambda: queue(client) == {**before, "demand": 0}, "nobody waits any more")


def test_when_a_newcomer_would_begin_is_told_once_that_is_known(
    stack: Stack, client: httpx.Client, rpc: Client
) -> None:
    """How long a job holds its slot is known when one has ended."""
    chat(stack, max_tokens=5).join()
    streams = [chat(stack, max_tokens=2000) for _ in range(SLOTS + 2)]
    eventually(lambda: queue(client)["interactive"]["waiting"] == 2, "two wait")
    eventually(lambda: queue(client)["interactive"]["eta_s"], "it is told")
    assert queue(client, "smollm2-135m")["interactive"]["eta_s"] is None, "nothing serves it"
    (over_rpc,) = rpc.call("GetQueue", pb.GetQueueRequest(model="fake")).models
    assert over_rpc.interactive.eta_s > 0
    (over_rpc,) = rpc.call("GetQueue", pb.GetQueueRequest(model="smollm2-135m")).models
    assert not over_rpc.interactive.HasField("eta_s")
    eventually(lambda: all(stream.job_id for stream in streams), "all have been taken")
    for stream in streams:
        client.delete(f"/jobs/{stream.job_id}")
    eventually(lambda: queue(client)["interactive"]["waiting"] == 0, "nobody waits any more")


def test_all_models_are_listed_or_one(client: httpx.Client, rpc: Client) -> None:
    listed = client.get("/queue").json()["data"]["models"]
    assert {one["id"] for one in listed} == {one["id"] for one in client.get("/models").json()["data"]["models"]}
    assert {one.id for one in rpc.call("GetQueue", pb.GetQueueRequest()).models} == {one["id"] for one in listed}
    assert client.get("/queue", params={"model": "fakee"}).status_code == 404
    assert client.get("/queue", params={"model": ""}).status_code == 422
    with pytest.raises(grpc.RpcError) as caught:
        rpc.call("GetQueue", pb.GetQueueRequest(model="fakee"))
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


def test_it_needs_the_scope_of_those_who_deploy(stack: Stack) -> None:
    credentials = Credentials(stack.redis)
    secrets = {scope: credentials.create(scope, scopes=[scope])[1] for scope in ("inference", "deploy")}
    for scope, status in (("inference", 403), ("deploy", 200)):
        with stack.client(secrets[scope]) as client:
            assert client.get("/queue").status_code == status


def test_what_lies_in_the_way_is_no_backlog(stack: Stack) -> None:
    """Entries whose jobs are gone, and a key of another type."""
    stack.redis.zadd(keys.queued("gone"), {"chatcmpl-gone": int(time.time() * 1000)})
    stack.redis.set(keys.queued("odd"), "text")
    found = backlogs(stack.store, ["gone", "odd", "fake"])
    assert found["gone"].interactive.oldest_wait_s == 0.0
    assert found["odd"] == found["fake"] == Backlog()
    stack.redis.delete(keys.queued("gone"), keys.queued("odd"))
