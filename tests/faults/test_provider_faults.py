"""Kill the provider worker in mid-stream, over 8 streams of two providers that can go on from a begun answer.

Their word i is always the same: one that is lost, repeated or mixed up shows in the text itself.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.conftest import TIMES, Ledger
from tests.stack import Stream, chat, eventually
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
