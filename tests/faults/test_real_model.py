"""Kills in mid-stream over 8 greedy streams of a real model.

After a resume the engine's numerics may lead to another word, so the promise is: what was sent stays, nothing is lost
or repeated, and the text is just what the journal's token ids say.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from gateway.models.catalog import load_catalog
from tests.engines import IN_32_BITS
from tests.faults.conftest import FULL, TIMES, Ledger
from tests.stack import Stack, Stream, chat, eventually, running
from workers.tokenizers.load import Tokenizer, load_tokenizer

MODEL, STREAMS, TOKENS = "smollm2-135m", 8 if FULL else 4, 80
#: What else may be killed; others do it with the fake engine.
OTHERS = ("model_worker", "agent")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("r"), {MODEL: IN_32_BITS}, grace_s=30.0) as stack:
        yield stack


@pytest.fixture(scope="module")
def tokenizer(stack: Stack) -> Tokenizer:
    model = load_catalog(stack.settings).get(MODEL)
    return load_tokenizer(str(model.path()), model.engine)


def ask(stack: Stack) -> list[Stream]:
    """The same questions each time."""
    return [
        chat(stack, f"Write a long story about river number {i}.", model=MODEL, temperature=0, max_tokens=TOKENS)
        for i in range(STREAMS)
    ]


def token_ids(stack: Stack, stream: Stream, claim: str | None = None) -> list[int]:
    """Ids in the journal, of one claim or of all."""
    events = [event for event in stack.journal(stream.job_id) if claim in (None, event.claim)]
    return [i for event in events for i in event.body.get("ids", ())]


@pytest.fixture(scope="module")
def undisturbed(stack: Stack) -> list[list[int]]:
    return [token_ids(stack, stream.join()) for stream in ask(stack)]


def kill(stack: Stack, what: str) -> None:
    replica = stack.replica(MODEL)
    if what == "agent":
        stack.kill("agent")
        stack.start("agent")
    else:
        os.kill(replica.engine_pid if what == "engine" else replica.pid, signal.SIGKILL)


@pytest.mark.parametrize("what", ["engine", *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)])
@pytest.mark.parametrize("_", [0, *(pytest.param(i, marks=pytest.mark.slow) for i in range(1, TIMES))])
def test_a_killed_process_costs_no_token(
    stack: Stack, tokenizer: Tokenizer, undisturbed: list[list[int]], ledger: Ledger, what: str, _: int
) -> None:
    stack.wait_active(1)
    streams = ask(stack)
    eventually(lambda: all(len(s.ids) > 5 for s in streams), "all streams run")
    seqs = [stream.seqs[-1] for stream in streams]
    kill(stack, what)
    for stream in streams:
        stream.join()

    def check(stream: Stream) -> None:
        whole = undisturbed[streams.index(stream)]
        events = stack.journal(stream.job_id)
        ids = token_ids(stack, stream)
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        assert sum(event.type.terminal for event in events) == 1
        assert stream.seqs == sorted(set(stream.seqs))
        assert stream.text == tokenizer.decode(ids)
        assert (stream.finish_reason, stream.error) in (("length", None), ("stop", None))
        assert len(ids) == TOKENS or ids[-1] in tokenizer.eos_ids
        before = token_ids(stack, stream, events[0].claim)
        assert before
        assert before == whole[: len(before)]

    ledger.note(f"real_model_killed_{what}", streams, seqs, check)
