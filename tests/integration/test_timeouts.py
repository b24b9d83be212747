"""How long one waits for a model that is busy: told, refused at once where it would be too long, or given up."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import grpc
import httpx
import pytest

from gateway.cluster.desired import Desired, ReplicaSpec, replica_id
from gateway.jobs.record import JobHead
from gateway.store import keys
from tests.integration.conftest import NARROW
from tests.rpc import Client, chat_request, details
from tests.rpc import client as rpc_client
from tests.stack import Stack, Stream, chat, eventually
from web.rpc.stubs import model_pb2 as pb

PATH = f"/models/{NARROW}/chat/completions"
BODY = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 2}
STEP_S, TOKENS = 0.05, 40
#: What the first job takes.
SERVICE_S = STEP_S * TOKENS
#: Tokens of a job that is still there when a test ends.
LONG = 1_000


@pytest.fixture
def narrow(stack: Stack) -> Iterator[Stack]:
    """A model with one place, whose new replica has measured how long a job holds it, and no promise."""
    place = stack.settings.node, stack.settings.device
    options = {"step_s": STEP_S}
    spec = ReplicaSpec(replica_id(NARROW, *place), NARROW, *place, max_batch_size=1, options=options)
    Desired(stack.redis).put(spec)
    eventually(lambda: [r for r in stack.registry.replicas(NARROW) if r.status == "active"], "it serves")
    chat(stack, model=NARROW, max_tokens=TOKENS).join()
    eventually(lambda: stack.replica(NARROW).slot_s > 0, "its heartbeat says how long a job takes")
    yield stack
    Desired(stack.redis).drop([spec])
    stack.redis.delete(*stack.redis.keys(f"{keys.lines(NARROW)}:*"))
    with stack.client() as rest, rpc_client(stack) as rpc:
        eventually(
            lambda: rest.get(f"/models/{NARROW}").json()["data"]["status"] == "inactive", "REST knows that it is gone"
        )
        asked = pb.GetModelRequest(model_id=NARROW)
        eventually(lambda: rpc.call("GetModel", asked).status == "inactive", "and so does gRPC")


@contextlib.contextmanager
def busy(stack: Stack, waiting: int = 0) -> Iterator[list[Stream]]:
    """Its place is taken, and so many others wait, in order."""
    with stack.client() as client:
        streams: list[Stream] = []
        try:
            for i in range(waiting + 1):
                streams.append(chat(stack, model=NARROW, max_tokens=LONG))
                eventually(lambda: streams[-1].job_id, "it is accepted")
                if i == 0:
                    eventually(lambda: head(stack, streams[0].job_id).state == "running", "it runs")
            yield streams
        finally:
            for stream in reversed(streams):
                client.delete(f"/jobs/{stream.job_id}")
            for stream in streams:
                stream.join()


def head(stack: Stack, job_id: str) -> JobHead:
    found = stack.store.head(job_id)
    assert found
    return found


def test_a_timeout_is_for_the_beginning_and_not_for_the_end(narrow: Stack, client: httpx.Client) -> None:
    answer = client.post(PATH, json={**BODY, "max_tokens": 80, "timeout": 3})
    assert 80 * STEP_S > 3
    assert answer.json()["data"]["usage"]["completion_tokens"] == 80


def test_a_job_that_has_not_begun_in_time_is_ended_and_not_started(narrow: Stack, client: httpx.Client) -> None:
    with busy(narrow):
        waiting = client.post(PATH, json={**BODY, "timeout": 0.5})
        assert waiting.status_code == 429
        assert waiting.json()["data"]["reason"] == "begins_too_late"
        assert "not begun within its timeout" in waiting.json()["message"]
        body = {**BODY, "timeout": 0.5, "priority": "background"}
        background = client.post(PATH, json=body, headers={"Prefer": "respond-async"}).json()["data"]["job_id"]
        eventually(lambda: head(narrow, background).state == "failed", "a background job is ended likewise")
        job = client.get(f"/jobs/{background}").json()["data"]
        assert (job["error"]["reason"], job["attempts"], job["started_at"]) == ("begins_too_late", 0, None)


def test_what_can_not_begin_in_time_is_refused_at_once(narrow: Stack, client: httpx.Client) -> None:
    """The model begins a job in two seconds: at the third place nothing begins within four."""
    with busy(narrow, waiting=2):
        for path, model, coming in (
            (PATH, {}, ""),
            ("/v1/chat/completions", {"model": NARROW}, ", with room kept for 1 told to come back"),
        ):
            refused = client.post(path, json={**BODY, **model, "timeout": 2 * SERVICE_S})
            assert refused.status_code == 429, refused.text
            assert 1 <= int(refused.headers["Retry-After"]) <= 60
            before = f"2 interactive requests wait for 'narrow' before this one{coming}; it would begin in about"
            assert before in refused.text
            assert f"and its timeout is {2 * SERVICE_S:g} s. Try again in" in refused.text
        error = refused.json()["error"]
        assert (error["code"], error["type"]) == ("begins_too_late", "rate_limit_error")
        patient = chat(narrow, model=NARROW, max_tokens=2, timeout=600)
    assert patient.join().finish_reason == "length"


def test_the_deadline_of_a_call_is_its_timeout(narrow: Stack, rpc: Client) -> None:
    with busy(narrow, waiting=8):
        with pytest.raises(grpc.RpcError) as caught:
            rpc.call("CreateChatCompletion", chat_request(model=NARROW), timeout=4 * SERVICE_S)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert details(caught.value)["ErrorInfo"].reason == "begins_too_late"
        assert details(caught.value)["RetryInfo"].retry_delay.seconds >= 1
        for patient in ({"timeout": 600.0}, {"detach": True}):
            stream = rpc.call(
                "CreateChatCompletionStream", chat_request(model=NARROW, **patient), timeout=4 * SERVICE_S
            )
            job_id = str(dict(stream.initial_metadata())["x-job-id"])
            assert head(narrow, job_id).state == "queued"
            stream.cancel()
            rpc.call("CancelJob", pb.CancelJobRequest(job_id=job_id))
        asked = pb.CreateJobRequest(chat=chat_request(model=NARROW))
        made = rpc.call("CreateJob", asked, timeout=4 * SERVICE_S)
        assert head(narrow, made.job_id).deadline == 0, "the job goes on without the call"
        rpc.call("CancelJob", pb.CancelJobRequest(job_id=made.job_id))


@pytest.mark.parametrize("timeout", [0.0, -1.0, float("nan"), 1e9])
def test_a_wrong_timeout_is_named(rpc: Client, timeout: float) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        rpc.call("CreateChatCompletion", chat_request(timeout=timeout))
    (violation,) = details(caught.value)["BadRequest"].field_violations
    assert violation.field == "timeout"
    assert "must be a number from 0.001 to 86400" in violation.description


def test_who_waits_is_told_for_how_long(narrow: Stack, client: httpx.Client, rpc: Client) -> None:
    """In the list, in its job, in the stream, and over gRPC: two service times at the second place."""
    with busy(narrow, waiting=2) as streams:
        running, first, second = (stream.job_id for stream in streams)

        def expected() -> Any:
            """By the mean as it is now: a job of the test before may end late."""
            return pytest.approx(2 * narrow.replica(NARROW).slot_s, abs=0.11)

        def listed(job_id: str) -> dict[str, Any]:
            found = client.get("/jobs?status=pending").json()["data"]["jobs"]
            return next(job for job in found if job["job_id"] == job_id)

        def read(job_id: str) -> tuple[dict[str, Any], pb.Job]:
            return client.get(f"/jobs/{job_id}").json()["data"], rpc.call("GetJob", pb.GetJobRequest(job_id=job_id))

        def told() -> list[float]:
            job, message = read(second)
            assert job["position"] == message.position == 2
            return [listed(second)["eta_s"], job["eta_s"], message.eta_s, 2 * listed(first)["eta_s"]]

        eventually(lambda: told() == [expected()] * 4, "the heartbeat says that no slot is free")

        def told_again() -> bool:
            position, _, eta_s = str(streams[2].comments[-1]).partition(" eta=")
            return (position, float(eta_s)) == (": queued position=2", expected())

        eventually(told_again, "the stream is told the same")
        events = rpc.call("WatchJob", pb.WatchJobRequest(job_id=second))
        waiting = next(event for event in events if event.HasField("waiting")).waiting
        events.cancel()
        assert (waiting.position, waiting.eta_s) == (2, expected())
        job, message = read(running)
        assert (job["position"], job["eta_s"], message.HasField("eta_s")) == (0, None, False)


def test_keys_are_served_by_their_weight(narrow: Stack, client: httpx.Client) -> None:
    """Where two keys wait, one of three times the weight gets three answers for each of the other's."""
    made = [client.post("/keys", json={"name": f"weight {n}", "weight": n}).json()["data"] for n in (1, 3)]
    assert [key["weight"] for key in made] == [1, 3]
    jobs: dict[str, int] = {}
    with busy(narrow):
        for key in made * 8:
            with narrow.client(key["secret"]) as owner:
                accepted = owner.post(PATH, json={**BODY, "max_tokens": 4}, headers={"Prefer": "respond-async"})
                jobs[accepted.json()["data"]["job_id"]] = key["weight"]
    eventually(lambda: all(head(narrow, job_id).state.ended for job_id in jobs), "all are served")
    served = [jobs[job_id] for job_id in sorted(jobs, key=lambda job_id: head(narrow, job_id).started_at)]
    assert 5 <= served[:8].count(3) <= 7, served
    changed = client.patch(f"/keys/{made[0]['id']}", json={"weight": 7}).json()["data"]
    assert changed == {**changed, "name": "weight 1", "weight": 7}
    refused = client.post("/keys", json={"name": "heavy", "weight": 101})
    assert (refused.status_code, "from 1 to 100" in refused.json()["message"]) == (422, True)
