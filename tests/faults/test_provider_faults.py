"""Kill the provider worker in mid-stream, or with offers in its hands, over 8 streams of two providers that can go on
from a begun answer.

Their word i is always the same: one that is lost, repeated or mixed up shows in the text itself.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from gateway.store import keys
from tests.faults.conftest import TIMES, Ledger
from tests.faults.proxy import SwallowingProxy
from tests.stack import Stream, chat, eventually, stop, stopped
from tests.upstreams.base import answer
from tests.upstreams.world import PATIENT, Tables, World
from tests.upstreams.world import world as run

STREAMS, WORDS = 8, 60


def tables(openai_url: str, anthropic_url: str) -> tuple[Tables, Tables]:
    oa = {"protocol": "openai", "base_url": openai_url, "api_key_env": "UP_OPENAI_KEY", **PATIENT}
    an = {**oa, "protocol": "anthropic", "base_url": anthropic_url, "api_key_env": "UP_ANTHROPIC_KEY"}
    providers = {"oa": {**oa, "continuation": "prefix"}, "an": an}
    return providers, {name: {"capabilities": ["chat"], "provider": name} for name in providers}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with run(tmp_path_factory.mktemp("f"), tables, grace_s=10.0) as world:
        for server in (world.openai, world.anthropic):
            server.words, server.pace_s = WORDS, 0.05
        yield world


@pytest.mark.parametrize("_", range(TIMES))
def test_provider_worker_killed(world: World, ledger: Ledger, _: int) -> None:
    streams = [chat(world.stack, model=("oa", "an")[i % 2]) for i in range(STREAMS)]
    eventually(lambda: all(len(stream.ids) > 5 for stream in streams), "all streams run")
    world.stack.kill("provider")
    seqs = [stream.seqs[-1] for stream in streams]
    world.start_worker()
    for stream in streams:
        stream.join()
    assert not world.stack.running()

    def check(stream: Stream) -> None:
        assert (stream.text, stream.finish_reason, stream.error) == (answer(WORDS), "stop", None)
        journal = world.stack.journal(stream.job_id)
        assert [event.seq for event in journal] == list(range(1, len(journal) + 1))
        assert stream.seqs == sorted(set(stream.seqs))
        assert sum(event.type.terminal for event in journal) == 1
        used = world.job(stream.job_id)["usage"]
        assert used["completion_tokens"] >= WORDS, "both calls are counted"

    ledger.note("provider_worker_killed", streams, seqs, check)


@pytest.fixture
def second(world: World) -> Iterator[SwallowingProxy]:
    """A second provider worker, "provider-2", which reaches Redis through a proxy."""
    stack = world.stack
    proxy = SwallowingProxy(str(stack.socket))
    stack.start("provider-2", settings=replace(stack.settings, node="n2", redis_url=proxy.url))
    eventually(lambda: "provider.n2" in stack.redis.zrange(keys.openings("an"), 0, -1), "it has asked")
    yield proxy
    stack.kill("provider-2")
    proxy.close()


def offered_to_second(world: World, proxy: SwallowingProxy, act: Callable[[int], object]) -> list[Stream]:
    """Streams of which some are offered to the second worker, to which something is done before it hears of it."""
    stack, acted = world.stack, threading.Event()

    def look_and_act() -> None:
        assert any(stack.redis.exists(f"{keys.lines(model)}:offered") for model in ("oa", "an"))
        act(stack.processes["provider-2"].pid)
        acted.set()

    with stopped(stack.processes["provider"].pid):
        proxy.at_offer(look_and_act)
        streams = [chat(stack, model=("oa", "an")[i % 2]) for i in range(STREAMS)]
        assert acted.wait(60), "none was offered"
    return streams


def all_whole(world: World, streams: list[Stream]) -> None:
    """All have ended with every word, after one claim."""
    for stream in streams:
        stream.join()
        assert (stream.text, stream.finish_reason, stream.error) == (answer(WORDS), "stop", None)
        assert sum(event.type.terminal for event in world.stack.journal(stream.job_id)) == 1
    jobs = world.stack.store.heads([stream.job_id for stream in streams]).values()
    assert {(job.attempts, job.crashes, job.losses) for job in jobs if job} == {(1, 0, 0)}


@pytest.mark.parametrize("_", range(TIMES))
def test_provider_worker_killed_between_its_offers_and_its_claims(
    world: World, second: SwallowingProxy, _: int
) -> None:
    all_whole(world, offered_to_second(world, second, lambda pid: os.kill(pid, signal.SIGKILL)))


@pytest.mark.slow
def test_a_zombie_with_offers_in_its_hands_takes_no_job_of_another(world: World, second: SwallowingProxy) -> None:
    stack = world.stack
    streams = offered_to_second(world, second, stop)
    all_whole(world, streams)
    os.kill(stack.processes["provider-2"].pid, signal.SIGCONT)
    eventually(lambda: len(stack.registry.providers()) == 2, "it is back")
    later = [chat(stack, model=("oa", "an")[i % 2]) for i in range(STREAMS)]
    all_whole(world, later)
    all_whole(world, streams)
