"""What a burst has needed, connections to Redis and threads, is given back when nobody uses it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace

import psutil
import pytest
import redis

from gateway.settings import Settings
from gateway.store.connection import KEPT_OPEN, connect
from tests.rpc import client as rpc_client
from tests.rpc import start_rpc
from tests.stack import REPOSITORY, Stack, chat, eventually, running
from web.rpc.stubs import model_pb2 as pb

BURST, IDLE_S = 200, 1.0


def connections(client: redis.Redis) -> int:
    return len(client.client_list())


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("i")
    with running(folder, {"fake": {"step_s": 0.01}}, idle_s=IDLE_S, max_batch_size=64) as stack:
        start_rpc(stack)
        yield stack


def test_a_burst_of_streams_leaves_no_connections(stack: Stack) -> None:
    chat(stack, max_tokens=3).join()
    before = eventually(lambda: settled(stack.redis), "nothing is opened or closed any more")
    opened = received(stack.redis)
    streams = [chat(stack, max_tokens=30) for _ in range(BURST)]
    for stream in streams:
        assert stream.join().error is None
    assert received(stack.redis) > opened, "the burst needed more"
    # Several processes have pools, and each may keep a few more than one request needs.
    eventually(lambda: connections(stack.redis) <= before + 4 * KEPT_OPEN, "they are given back")
    assert chat(stack, max_tokens=3).join().error is None


def received(client: redis.Redis) -> int:
    """Connections that were opened since Redis began."""
    return int(client.info("stats")["total_connections_received"])


def settled(client: redis.Redis) -> int:
    """The number of connections, if it has been the same for a while; else 0."""
    before = connections(client)
    threading.Event().wait(2 * IDLE_S)
    return before if connections(client) == before else 0


def test_a_burst_of_calls_leaves_no_threads(stack: Stack) -> None:
    process = psutil.Process(stack.processes["rpc"].pid)
    body = pb.ChatCompletionRequest(
        model_id="fake", messages=[pb.Message(role="user", content="hello")], max_tokens=100
    )
    with rpc_client(stack) as rpc, ThreadPoolExecutor(100) as pool:
        assert rpc.call("CreateChatCompletion", body).choices
        before = process.num_threads()
        answers = [pool.submit(rpc.call, "CreateChatCompletion", body) for _ in range(100)]
        eventually(lambda: process.num_threads() > before + 30, "the burst needs many")
        assert all(answer.result(120).choices for answer in answers)
        eventually(lambda: process.num_threads() <= before + 5, "they have ended")
        assert rpc.call("CreateChatCompletion", body).choices


def test_a_client_keeps_a_few_and_connects_again(settings: Settings, redis_client: redis.Redis) -> None:
    others = connections(redis_client)
    with closing(connect(replace(settings, idle_s=0.3), max_connections=20)) as client:
        pool = client.connection_pool
        held = [pool.get_connection() for _ in range(20)]
        assert connections(redis_client) == others + 20
        for one in held[1:]:
            pool.release(one)
        eventually(lambda: connections(redis_client) == others + KEPT_OPEN + 1, "the idle ones are closed")
        held[0].send_command("PING")
        assert held[0].read_response() == "PONG", "what is in use is left alone"
        pool.release(held[0])
        again = [pool.get_connection() for _ in range(20)]
        assert connections(redis_client) == others + 20
        for one in again:
            pool.release(one)


FORKED = """
import os, sys, threading
from gateway.settings import Settings
from gateway.store.connection import connect
client = connect(Settings.load())
client.ping()
if child := os.fork():
    os.waitpid(child, 0)
held = [client.connection_pool.get_connection() for _ in range(10)]
for one in held:
    one.send_command("CLIENT", "SETNAME", "forked")
    one.read_response()
    client.connection_pool.release(one)
threading.Event().wait(60)
"""


def test_after_a_fork_the_child_gives_back_its_own(settings: Settings, redis_client: redis.Redis) -> None:
    environ = {**os.environ, **replace(settings, idle_s=0.3).environ()}
    process = subprocess.Popen([sys.executable, "-c", FORKED], env=environ, cwd=REPOSITORY, start_new_session=True)
    try:

        def named() -> int:
            return sum(one["name"] == "forked" for one in redis_client.client_list())

        eventually(lambda: named() > KEPT_OPEN, "it has its connections")
        eventually(lambda: named() == KEPT_OPEN, "the idle ones are closed")
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
