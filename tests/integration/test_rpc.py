"""The gRPC process as a service: deadlines, clients that leave, limits, certificates, restarts."""

from __future__ import annotations

import asyncio
import random
import re
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from gateway.access.api_keys import Credentials
from gateway.access.certificates import authority
from tests.bench.grpc_load import DATA, END_HEADERS, END_STREAM, HEADERS, SETTINGS, frame, header
from tests.rpc import Client, chat_request, client, details, start_rpc, text_of
from tests.stack import KEY, REPOSITORY, Stack, chat, eventually, free_port, running
from web.rpc.stubs import model_pb2 as pb
from web.rpc.stubs.model_pb2_grpc import ModelServiceStub

#: More than any test waits for.
LONG = 100_000


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(
        tmp_path_factory.mktemp("s"), {"fake": {"step_s": 0.02}}, grace_s=1.0, queue_limit=1000, max_batch_size=16
    ) as stack:
        start_rpc(stack)
        yield stack


def another(stack: Stack, name: str, command: list[str] | None = None, **changes: Any) -> Stack:
    """The same stack seen through one more gRPC process, with other settings."""
    settings = replace(stack.settings, grpc_port=free_port(), **changes)
    start_rpc(stack, f"rpc-{name}", settings, command)
    view = object.__new__(Stack)
    view.__dict__ = {**stack.__dict__, "settings": settings}
    return view


def state(stack: Stack, job_id: str) -> str:
    job = stack.store.read(job_id)
    return job.state.value if job else "gone"


def job_of(call: Any) -> str:
    return str(dict(call.initial_metadata())["x-job-id"])


def refused(call: Any) -> grpc.RpcError:
    """The error of a call or a stream."""
    with pytest.raises(grpc.RpcError) as caught:
        list(call())
    return caught.value


def idle(stack: Stack) -> bool:
    """Whether the engine itself has no sequence, and nothing runs or waits."""
    return not stack.running() and stack.replica().sequences == 0


@pytest.mark.parametrize("method", ["CreateChatCompletion", "CreateChatCompletionStream"])
def test_a_deadline_cancels_the_job(stack: Stack, rpc: Client, method: str) -> None:
    request = chat_request(max_tokens=LONG)
    error = refused(lambda: iter(rpc.call(method, request, timeout=3)))
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    job_id = str(dict(error.initial_metadata())["x-job-id"])
    eventually(lambda: state(stack, job_id) == "cancelled", "the job is cancelled")
    eventually(lambda: idle(stack), "the engine is idle")


def test_a_client_that_cancels_frees_its_place(stack: Stack, rpc: Client) -> None:
    stream = rpc.call("CreateChatCompletionStream", chat_request(max_tokens=LONG))
    job_id = job_of(stream)
    next(stream)
    stream.cancel()
    eventually(lambda: state(stack, job_id) == "cancelled", "the job is cancelled")
    eventually(lambda: idle(stack), "the engine is idle")


def test_a_job_that_rest_started_is_followed_from_a_cursor(stack: Stack, rpc: Client) -> None:
    stream = chat(stack, max_tokens=60).join()
    whole = list(rpc.call("WatchJob", pb.WatchJobRequest(job_id=stream.job_id)))
    assert text_of([event.chat for event in whole]) == stream.text
    middle = whole[len(whole) // 2].chat
    cursor = pb.WatchJobRequest(job_id=stream.job_id, from_seq=middle.seq, from_claim=middle.claim)
    rest = list(rpc.call("WatchJob", cursor))
    assert rest == [event for event in whole if event.chat.seq > middle.seq]


def test_a_job_that_grpc_started_is_followed_over_rest(stack: Stack, rpc: Client) -> None:
    call = rpc.call("CreateChatCompletionStream", chat_request(max_tokens=60))
    chunks = list(call)
    middle = chunks[len(chunks) // 2]
    with stack.client() as rest:
        headers = {"Last-Event-ID": f"{middle.seq}-{middle.claim}"}
        told = rest.get(f"/jobs/{job_of(call)}/events", headers=headers).text
    seqs = [int(found) for found in re.findall(r"^id: (\d+)-", told, re.MULTILINE)]
    assert [seq for seq in seqs if seq <= chunks[-1].seq] == [c.seq for c in chunks if c.seq > middle.seq]


def test_a_restart_sends_goaway_and_streams_go_on_at_the_next_server(stack: Stack) -> None:
    draining = another(stack, "drained")
    states: list[grpc.ChannelConnectivity] = []
    with client(draining) as rpc:
        rpc.channel.subscribe(states.append)
        stream = rpc.call("CreateChatCompletionStream", chat_request(max_tokens=400))
        seen = [next(stream)]
        stack.processes["rpc-drained"].terminate()
        # GOAWAY: the channel makes new calls elsewhere, while the open one goes on.
        eventually(lambda: states[-1] is grpc.ChannelConnectivity.IDLE, "the channel leaves the server")
        seen.append(next(stream))
        with pytest.raises(grpc.RpcError) as caught:
            seen.extend(stream)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert details(caught.value)["ErrorInfo"].reason == "restarting"
        assert "WatchJob" in caught.value.details()
    assert stack.processes["rpc-drained"].wait(60) == 0
    job_id, last = job_of(stream), seen[-1]
    with client(stack) as rpc:
        cursor = pb.WatchJobRequest(job_id=job_id, from_seq=last.seq, from_claim=last.claim)
        seen += [event.chat for event in rpc.call("WatchJob", cursor) if event.HasField("chat")]
        job = rpc.call("GetJob", pb.GetJobRequest(job_id=job_id))
    assert text_of(seen) == job.chat.choices[0].message.content
    assert job.usage.completion_tokens == 400


def test_too_many_calls_are_refused(stack: Stack) -> None:
    view = another(stack, "few", grpc_max_calls=2)
    with client(view) as rpc:
        open_streams = [rpc.call("CreateChatCompletionStream", chat_request(max_tokens=LONG)) for _ in range(2)]
        for stream in open_streams:
            next(stream)
        with client(view) as other:
            error = refused(lambda: iter([other.call("ListModels", pb.ListModelsRequest())]))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert details(error)["ErrorInfo"].reason == "too_many_calls"
        for stream in open_streams:
            stream.cancel()


def test_a_client_that_takes_nothing_loses_its_call_and_its_place(stack: Stack) -> None:
    """Its window is small, so the server can send but a few messages, though the connection is well."""
    patient = (
        "from web.rpc import runtime; runtime.SEND_TIMEOUT_S = 1.0; "
        "from gateway.process.start import run; from web.rpc.server import main; run(main)"
    )
    view = another(stack, "patient", [sys.executable, "-c", patient], grpc_max_calls=1)
    window = {"grpc.http2.lookahead_bytes": 1000, "grpc.http2.bdp_probe": 0}
    slow = Client(view, **window)
    try:
        stream = slow.call("CreateChatCompletionStream", chat_request(max_tokens=LONG))
        next(stream)
        job_id = job_of(stream)
        eventually(lambda: state(stack, job_id) == "cancelled", "the job is cancelled")
        with client(view) as rpc:
            assert rpc.call("ListModels", pb.ListModelsRequest()).models
        error = refused(lambda: stream)
    finally:
        slow.channel.close()
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert details(error)["ErrorInfo"].reason == "client_stalled"
    assert job_id in error.details()
    stack.kill("rpc-patient", signal.SIGTERM)
    assert stack.processes["rpc-patient"].returncode == 0


def test_a_health_watcher_that_takes_nothing_hinders_nobody(stack: Stack) -> None:
    view = another(stack, "watched", grpc_plaintext=True)
    port = view.settings.grpc_port
    fields = {":method": "POST", ":scheme": "http", ":path": "/grpc.health.v1.Health/Watch", ":authority": "localhost"}
    block = b"".join(
        header(*field) for field in {**fields, "content-type": "application/grpc", "te": "trailers"}.items()
    )
    no_window = frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 0))
    request = frame(HEADERS, END_HEADERS, 1, block) + frame(DATA, END_STREAM, 1, bytes(5))
    with (
        socket.create_connection(("127.0.0.1", port)) as watcher,
        grpc.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        watcher.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + no_window + request)
        health = HealthStub(channel)
        changes = health.Watch(HealthCheckRequest(), timeout=60)
        assert next(changes).status == HealthCheckResponse.SERVING
        assert health.Check(HealthCheckRequest(service="model.ModelService")).status == HealthCheckResponse.SERVING
        assert health.Check(HealthCheckRequest(service="models/fake")).status == HealthCheckResponse.SERVING
        stack.processes["rpc-watched"].terminate()
        assert next(changes).status == HealthCheckResponse.NOT_SERVING
        assert stack.processes["rpc-watched"].wait(60) == 0


def test_a_client_needs_a_certificate_if_a_ca_is_set(stack: Stack) -> None:
    with authority(stack.settings) as ca:
        certificate = ca.issue("client-test", "test")
    folder = stack.folder / "tls"
    view = another(stack, "mutual", tls_client_ca=str(folder / "ca.pem"))
    with client(view) as rpc:
        error = refused(lambda: iter([rpc.call("ListModels", pb.ListModelsRequest(), timeout=10)]))
    assert error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
    credentials = grpc.ssl_channel_credentials(
        (folder / "ca.pem").read_bytes(), certificate.with_suffix(".key").read_bytes(), certificate.read_bytes()
    )
    with grpc.secure_channel(f"localhost:{view.settings.grpc_port}", credentials) as channel:
        metadata = (("authorization", f"Bearer {KEY}"),)
        assert ModelServiceStub(channel).ListModels(pb.ListModelsRequest(), metadata=metadata).models


def test_a_default_key_acts_for_calls_without_one_and_for_no_others(stack: Stack) -> None:
    record, _ = Credentials(stack.redis).create("nobody", ["inference"])
    view = another(stack, "default", grpc_default_key=record.id)
    with client(view, key="") as rpc:
        call = rpc.call("CreateChatCompletionStream", chat_request())
        list(call)
    job = stack.store.read(job_of(call))
    assert job is not None
    assert job.key_id == record.id
    with client(view, key="hr-wrong") as rpc:
        error = refused(lambda: iter([rpc.call("ListModels", pb.ListModelsRequest())]))
    assert error.code() is grpc.StatusCode.UNAUTHENTICATED


def test_reflection_can_be_switched_off(stack: Stack) -> None:
    from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse
    from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub

    def services(view: Stack) -> set[str]:
        with client(view) as rpc:
            asked = iter([ServerReflectionRequest(list_services="")])
            (answer,) = ServerReflectionStub(rpc.channel).ServerReflectionInfo(asked)
        return {service.name for service in answer.list_services_response.service}

    with client(stack) as rpc:
        newer = rpc.channel.stream_stream(
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            request_serializer=ServerReflectionRequest.SerializeToString,
            response_deserializer=ServerReflectionResponse.FromString,
        )
        names = ("model.ModelService", "grpc.reflection.v1.ServerReflection")
        files = list(newer(iter([ServerReflectionRequest(file_containing_symbol=name) for name in names])))
    assert all(file.file_descriptor_response.file_descriptor_proto for file in files)
    assert {"model.ModelService", "model.JobService", *names} <= services(stack)
    error = refused(lambda: services(another(stack, "silent", grpc_reflection=False)))
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_client_that_pings_too_often_is_told_to_go(stack: Stack, capfd: pytest.CaptureFixture[str]) -> None:
    """A second ping within 10 s is one too many, while nothing else goes over the connection."""
    eager = {"grpc.keepalive_time_ms": 100, "grpc.http2.max_pings_without_data": 0}
    rpc = Client(stack, **eager)
    try:
        error = refused(lambda: HealthStub(rpc.channel).Watch(HealthCheckRequest(), timeout=60))
    finally:
        rpc.channel.close()
    assert (error.code(), error.details()) == (grpc.StatusCode.UNAVAILABLE, "Too many pings")
    assert "GOAWAY with error code ENHANCE_YOUR_CALM" in capfd.readouterr().err


_SLEEPER = """
import os, signal, sys
from pathlib import Path
from gateway.settings import Settings
from tests.rpc import Client, chat_request
from tests.stack import Stack

view = object.__new__(Stack)
view.settings = Settings(data_dir=Path(sys.argv[1]), grpc_port=int(sys.argv[2]))
stream = Client(view).call("CreateChatCompletionStream", chat_request(max_tokens=100_000))
next(stream)
print(dict(stream.initial_metadata())["x-job-id"], flush=True)
os.kill(os.getpid(), signal.SIGSTOP)
"""


def test_a_client_that_answers_no_ping_is_let_go(stack: Stack) -> None:
    """Its machine has vanished, say: nothing closes the connection, and what is sent still fits into buffers."""
    view = another(stack, "alert", grpc_keepalive_s=1)
    command = [sys.executable, "-c", _SLEEPER, str(stack.folder), str(view.settings.grpc_port)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as sleeper:
        try:
            assert sleeper.stdout
            job_id = sleeper.stdout.readline().strip()
            assert state(stack, job_id) == "running"
            eventually(lambda: state(stack, job_id) == "cancelled", "the job is cancelled")
            assert sleeper.poll() is None
        finally:
            sleeper.kill()


def test_500_clients_that_cancel_at_random_moments_leave_nothing_behind(stack: Stack) -> None:
    """The server has only as many places as there are clients: had one call stayed open, the next round would fail."""
    view = another(stack, "crowd", grpc_max_calls=500)
    chances = random.Random(5)
    metadata = (("authorization", f"Bearer {KEY}"),)
    ca = (stack.folder / "tls" / "ca.pem").read_bytes()

    async def one(stub: Any, after_s: float) -> None:
        call = stub.CreateChatCompletionStream(chat_request(max_tokens=LONG), metadata=metadata)
        await asyncio.sleep(after_s)
        call.cancel()

    async def crowd(count: int) -> None:
        credentials = grpc.ssl_channel_credentials(ca)
        async with grpc.aio.secure_channel(f"localhost:{view.settings.grpc_port}", credentials) as channel:
            stub: Any = ModelServiceStub(channel)  # type: ignore[arg-type]
            await asyncio.gather(*(one(stub, chances.uniform(0, 4)) for _ in range(count)))

    asyncio.run(crowd(500))
    eventually(lambda: stack.redis.zcard("hr:queued:fake") == 0, "nothing waits")
    eventually(lambda: idle(stack), "the engine is idle")
    # All 500 places are free again: no stream is open.
    with client(view) as rpc:
        streams = [rpc.call("CreateChatCompletionStream", chat_request(max_tokens=LONG)) for _ in range(500)]
        assert len({job_of(stream) for stream in streams}) == 500
        for stream in streams:
            stream.cancel()
    eventually(lambda: idle(stack), "the engine is idle again")
    stack.kill("rpc-crowd", signal.SIGTERM)
    assert stack.processes["rpc-crowd"].returncode == 0
    log = (stack.folder / "logs" / "rpc-crowd.log").read_text()
    assert "ending: 0 calls are open, 0 jobs are followed" in log
    assert not re.findall("error|exception", log, re.IGNORECASE)
