"""The engine process's batch: what a library raises is laid at the door of the request that caused it."""

from __future__ import annotations

import pytest

from workers.engines.base import EngineConfig, Sampling
from workers.engines.fake import FakeEngine, fake_word
from workers.engines.process import Batch


def batch() -> Batch:
    """Around a fake engine that raises for each prompt with the word."""
    options = {"raise_word": "raise"}
    return Batch(FakeEngine(EngineConfig("fake", "", "CPU", 8, 512, options=options)))


def add(batch: Batch, *sequences: tuple[int, str]) -> None:
    """Sequences, each with the word that is its prompt."""
    sampling = vars(Sampling(max_tokens=4, temperature=0.0))
    requests = [
        {"sequence_id": i, "prompt_ids": [fake_word(word)], "sampling": sampling, "key": f"{word}/{i}"}
        for i, word in sequences
    ]
    batch.obey({"op": "add", "requests": requests})


def test_who_is_alone_when_a_step_fails_has_caused_it() -> None:
    one = batch()
    add(one, (1, "raise"))
    (output,) = one.step()
    assert (output.sequence_id, output.finish_reason) == (1, "failed")


def test_who_is_cancelled_is_not_in_the_step_any_more() -> None:
    one = batch()
    add(one, (1, "sound"), (2, "sound"))
    one.step()
    one.obey({"op": "cancel", "ids": [1, 2]})
    add(one, (3, "raise"))
    assert [(output.sequence_id, output.finish_reason) for output in one.step()] == [(3, "failed")]


def test_what_fails_a_step_of_several_is_not_laid_at_anybodys_door() -> None:
    one = batch()
    add(one, (1, "sound"), (2, "raise"))
    with pytest.raises(RuntimeError, match="raise_word"):
        one.step()


def test_answers_of_one_job_are_one_stream() -> None:
    one = batch()
    add(one, (1, "sound"), (2, "sound"), (3, "other"))
    assert one.num_jobs() == 2
    one.obey({"op": "cancel", "ids": [1, 3]})
    assert one.num_jobs() == 1
