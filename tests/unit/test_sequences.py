"""Runs leave the engine at any token, and go on there from where they are."""

from __future__ import annotations

from gateway.jobs.record import Job, JobState
from workers.engines.base import SequenceOutput
from workers.handlers.generation_run import Run
from workers.replica.sequences import Sequences
from workers.tokenizers.load import FakeTokenizer


def run(**request: object) -> Run:
    full = {"messages": [], "max_tokens": 6, "temperature": 1.0, "top_p": 1.0, **request}
    job = Job("chatcmpl-1", JobState.RUNNING, "chat", "fake", "key", full, claim="c1")
    return Run(job, prompts=[[1, 2]], tokenizer=FakeTokenizer(), max_tokens=6)


def test_a_run_that_was_taken_out_goes_on_behind_its_last_token() -> None:
    sequences, paused = Sequences(), run()
    (first,) = sequences.add(paused)
    assert not sequences.take(SequenceOutput(first.sequence_id, [7, 8]))
    assert sequences.remove_all() == [first.sequence_id]
    sequences.take(SequenceOutput(first.sequence_id, [9]))  # was on its way, and is made again
    (second,) = sequences.add(paused)
    assert second.sequence_id != first.sequence_id
    assert list(second.prompt_ids) == [1, 2, 7, 8]
    assert (second.generated, second.sampling and second.sampling.max_tokens) == (2, 4)
    sequences.take(SequenceOutput(second.sequence_id, [9, 10, 11, 12], None, "length"))
    assert paused.state is JobState.DONE
    assert len(sequences) == 0


def test_a_choice_that_has_ended_is_not_asked_for_again() -> None:
    sequences, two = Sequences(), run(n=2)
    first, other = sequences.add(two)
    sequences.take(SequenceOutput(first.sequence_id, [7], None, "stop"))
    assert sequences.remove(two) == [other.sequence_id]
    (again,) = sequences.add(two)
    assert again.key.endswith("/1")
    assert sequences.find(again.sequence_id) is two


def test_a_run_that_is_over_asks_for_nothing() -> None:
    sequences, over = Sequences(), run()
    over.cancel()
    assert sequences.add(over) == []
    gone = run()
    gone.finished.set()
    assert sequences.add(gone) == []
    assert sequences.runs() == []
