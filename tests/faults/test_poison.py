"""Jobs that kill whoever runs them, whatever kind of worker that is: they end soon, and those beside them go on."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import psutil
import pytest

from gateway.jobs.record import JobState
from gateway.store import keys
from tests.stack import Stack, chat, eventually, running
from tests.upstreams.base import answer
from tests.upstreams.world import PATIENT, Tables, World
from tests.upstreams.world import world as run

STREAMS, WORDS = 2, 100


def tables(openai_url: str, _: str) -> tuple[Tables, Tables]:
    provider = {"protocol": "openai", "base_url": openai_url, "api_key_env": "UP_OPENAI_KEY", **PATIENT}
    models = {name: {"capabilities": ["chat"], "provider": "oa"} for name in ("good", "deadly")}
    return {"oa": {**provider, "continuation": "prefix"}}, models


@pytest.fixture
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with run(tmp_path_factory.mktemp("p"), tables, grace_s=10.0, breaker_failures=1000) as world:
        world.openai.words, world.openai.pace_s = WORDS, 0.05
        yield world


def kill_the_client(handler: BaseHTTPRequestHandler) -> None:
    """As if a native library of the worker could not bear the answer."""
    ends = (
        handler.client_address[1],
        handler.connection.getsockname()[1],
    )  # others may use the same port for other servers
    links = [one for one in psutil.net_connections("tcp") if one.raddr and (one.laddr.port, one.raddr.port) == ends]
    for pid in {one.pid for one in links} - {None, os.getpid()}:
        os.kill(pid, signal.SIGSEGV)


@pytest.mark.slow
def test_a_job_that_kills_provider_workers_ends_and_the_others_go_on(world: World) -> None:
    handle = world.openai.handle
    calls: list[str] = []

    def deadly(handler: BaseHTTPRequestHandler) -> Any:
        text = handler.rfile.peek()[:2000].decode(errors="replace")  # type: ignore[attr-defined]
        if '"model":"deadly"' in text.replace(" ", ""):
            calls.append(text)
            return kill_the_client(handler)
        return handle(handler)

    world.openai.handle = deadly  # type: ignore[method-assign]
    streams = [chat(world.stack, model="good") for _ in range(STREAMS)]
    eventually(lambda: all(len(stream.ids) > 3 for stream in streams), "all streams run")
    poison = chat(world.stack, model="deadly")
    restarts = 0

    def over() -> bool:
        nonlocal restarts
        if world.stack.processes["provider"].poll() is not None:
            restarts += 1
            world.stack.start("provider")
        return poison.ended

    eventually(over, "the job that kills workers has ended", 120)
    assert poison.error is not None
    assert poison.error["data"]["reason"] == "worker_crashed", poison.error
    assert (len(calls), restarts) == (3, 2), "the third time it was in a process of its own"
    for stream in streams:
        stream.join()
        assert (stream.text, stream.finish_reason, stream.error) == (answer(WORDS), "stop", None)
    run = world.stack.folder / "run"
    eventually(lambda: not list(run.glob("*alone*")), "nothing is left behind")


@pytest.fixture
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("w"), {"fake": {"step_s": 0.05, "max_batch_size": 8}}, grace_s=10.0) as stack:
        yield stack


def test_a_death_of_a_model_worker_by_itself_counts_and_one_by_somebody_else_does_not(stack: Stack) -> None:
    stream = chat(stack, max_tokens=100)
    for number, crashes in ((signal.SIGKILL, 0), (signal.SIGSEGV, 1), (signal.SIGKILL, 1)):
        seen = len(stream.ids)
        eventually(lambda seen=seen: len(stream.ids) > seen + 5, "it runs")
        pid = stack.replica().pid
        os.kill(pid, number)
        eventually(lambda pid=pid: any(r.pid != pid for r in stack.registry.replicas()), "another worker lives")
        found = stack.store.read(stream.job_id)
        assert found is not None
        assert found.crashes == crashes, number
    stream.join()
    assert stream.finish_reason == "length"
    found = stack.store.read(stream.job_id)
    assert found is not None
    assert found.state is JobState.DONE
    assert not stack.redis.zcard(keys.RUNNING)
