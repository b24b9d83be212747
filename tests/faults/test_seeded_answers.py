"""`kill -9` of the engine amid seeded answers of a real model in 32 bits: each is the one that nobody disturbed.

What the fake engine makes through a kill is in test_faults.py and test_formed_answers.py.
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from tests.engines import PLACE
from tests.named_models import save_safetensors
from tests.stack import Stack, Stream, chat, eventually, running

CATALOG = """
[models.small]
capabilities = ["chat", "completion"]
engine = "transformers"
source = "{source}"
context_length = 2048
max_tokens = 2048
"""
TOKENS = 300
#: How they are asked for, in turns. None may end by itself.
WAYS: Sequence[dict[str, Any]] = (
    {"temperature": 1.0},
    {"temperature": 0.8, "top_p": 0.9, "top_k": 100, "n": 2},
    {"temperature": 1.5, "min_p": 0.1, "repetition_penalty": 1.2},
    {"temperature": 1.0, "presence_penalty": 0.5, "frequency_penalty": 0.5, "logprobs": True, "top_logprobs": 2},
    {"temperature": 1.0, "structured_outputs": {"regex": "[a-z]+( [a-zäöü€]{2,9})*"}},
)
EXACT = {"logit_bias": {"0": -100, "1": -100, "2": -100}, "max_tokens": TOKENS, "require_exact_resume": True}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("s")
    source = save_safetensors(folder / "small")
    catalog = CATALOG.format(source=source)
    with running(folder / "h", {"small": {}}, catalog=catalog, device=PLACE, grace_s=30.0) as stack:
        yield stack


def ask(stack: Stack, seeds: Sequence[int]) -> list[Stream]:
    return [chat(stack, model="small", seed=seed, **EXACT, **WAYS[seed % len(WAYS)]) for seed in seeds]


def ids(stack: Stack, stream: Stream) -> dict[int, list[int]]:
    """The tokens of each answer, as the journal has them."""
    found: dict[int, list[int]] = {}
    for event in stack.journal(stream.job_id):
        found.setdefault(event.body.get("index", 0), []).extend(event.body.get("ids", ()))
    return found


def claims(stack: Stack, stream: Stream) -> int:
    return sum(event.type.value in ("started", "resumed") for event in stack.journal(stream.job_id))


def kill_amid(stack: Stack, streams: Sequence[Stream], *, behind: int) -> None:
    """End the engine when all run, and the first has so many tokens."""
    eventually(lambda: all(stream.ids for stream in streams) and len(ids(stack, streams[0])[0]) > behind, "they run")
    os.kill(stack.replica("small").engine_pid, signal.SIGKILL)


@pytest.mark.parametrize("batches", [(2, 6), pytest.param((1, 3, 8, 16, 22), marks=pytest.mark.slow)])
def test_an_answer_goes_on_as_if_nothing_had_happened(stack: Stack, batches: Sequence[int]) -> None:
    """All at once and undisturbed; then in batches of other sizes, with a kill amid each."""
    seeds, lot = range(sum(batches)), random.Random(str(batches))
    whole = [(stream.join().text, ids(stack, stream)) for stream in ask(stack, seeds)]
    assert {len(one) for _, made in whole for one in made.values()} == {TOKENS}
    begun, resumed = 0, 0
    for size in batches:
        streams = ask(stack, seeds[begun : begun + size])
        kill_amid(stack, streams, behind=lot.randrange(2, TOKENS // 3))
        for stream, (text, made) in zip(streams, whole[begun:], strict=False):
            stream.join()
            assert (stream.error, stream.finish_reason, stream.rewound) == (None, "length", 0)
            assert ids(stack, stream) == made
            assert len(made) > 1 or stream.text == text
            resumed += claims(stack, stream) > 1
        begun += size
        eventually(lambda: stack.replica("small").status == "active", "it is loaded again")
    assert resumed > 0.8 * len(seeds), "the kills came too late"
