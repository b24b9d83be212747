"""What happens to a load that a request has asked for when somebody dies or leaves meanwhile."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace

import httpx
import pytest

from tests.on_demand import ask, deployments, entry, status, unloaded
from tests.stack import Stack, chat, eventually, family, running


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    catalog = entry("slow", load_s=4)
    folder = tmp_path_factory.mktemp("demand")
    with running(folder, {}, catalog=catalog, load_on_demand=True, node_gone_s=3.0) as stack:
        with stack.client() as client:
            eventually(lambda: status(client, "slow") == "available", "the agent says which weights it has")
        yield stack


@pytest.fixture
def client(stack: Stack) -> Iterator[httpx.Client]:
    with stack.client() as client:
        unloaded(stack, client, "slow")
        eventually(lambda: status(client, "slow") == "available", "the next request would load it")
        yield client


def test_a_load_goes_on_when_its_agent_is_killed(stack: Stack, client: httpx.Client) -> None:
    before = len(deployments(client, "slow"))
    stream = chat(stack, model="slow", max_tokens=4)
    eventually(lambda: stack.registry.replicas("slow"), "it loads")
    stack.kill("agent")
    stack.start("agent")
    assert stream.join().error is None
    assert stream.finish_reason == "length"
    assert len(deployments(client, "slow")) == before + 1
    eventually(lambda: deployments(client, "slow")[0]["status"] == "completed", "its deployment ends")


def test_a_job_has_its_model_loaded_though_the_process_that_took_it_is_killed(
    stack: Stack, client: httpx.Client
) -> None:
    """Also while no keeper was there: what waits is what counts."""
    path = ask(client, "slow", Prefer="respond-async").json()["data"]["location"]
    for name in ("web", "keeper"):
        stack.kill(name)
        stack.start(name)

    def completed() -> bool:
        with contextlib.suppress(httpx.TransportError):  # what the killed process has left ends, too
            return client.get(path).json()["data"]["status"] == "completed"
        return False

    eventually(completed, "the job is done")


def test_a_load_goes_on_when_its_client_leaves(stack: Stack, client: httpx.Client) -> None:
    body = {"messages": [{"role": "user", "content": "hi"}], "stream": True}
    with client.stream("POST", "/models/slow/chat/completions", json=body) as response:
        job_id = response.headers["X-Job-Id"]
        next(response.iter_lines())
    eventually(lambda: client.get(f"/jobs/{job_id}").json()["data"]["status"] == "cancelled", "nobody waits for it")
    eventually(lambda: status(client, "slow") == "active", "it is there for the next one")


def test_a_load_outlives_an_outage_of_redis(stack: Stack, client: httpx.Client) -> None:
    stream = chat(stack, model="slow", max_tokens=4)
    eventually(lambda: stack.registry.replicas("slow"), "it loads")
    stack.kill("redis")
    stack.start_redis()
    assert stream.join().error is None
    assert stream.finish_reason == "length"


def test_what_waits_on_a_node_that_is_gone_is_loaded_elsewhere(stack: Stack, client: httpx.Client) -> None:
    second = replace(stack.settings, node="n2")
    stack.start("agent-n2", settings=second)
    eventually(lambda: {one.node for one in stack.registry.devices()} == {"n1", "n2"}, "both nodes live")
    assert client.post("/nodes/n1/cordon").status_code == 200
    try:
        eventually(lambda: client.get("/health/ready?model=slow").status_code == 200, "n2 has the weights, too")
        stream = chat(stack, model="slow", max_tokens=1000)
        eventually(lambda: len(stream.ids) > 3, "it runs on n2")
        (replica,) = stack.registry.replicas("slow")
        assert replica.node == "n2"
    finally:
        client.post("/nodes/n1/uncordon")
    stack.kill("agent-n2")
    for process in family(replica.pid):
        process.kill()
    stream.join()
    assert (stream.error, stream.finish_reason) == (None, "length")
    assert {one.node for one in stack.registry.replicas("slow")} == {"n1"}
