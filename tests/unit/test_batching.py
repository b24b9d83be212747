"""Which sequences share a forward pass."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from workers.engines.base import SequenceRequest
from workers.engines.prefill import OLDEST_EACH
from workers.engines.pytorch.batching import MAX_BATCH_TOKENS, MAX_PADDING_TOKENS, Batcher, Passes


def add(batcher: Batcher, first_id: int, lengths: list[int], job: str = "job") -> None:
    for i, length in enumerate(lengths):
        batcher.add(SequenceRequest(first_id + i, [1] * length, key=f"{job}/{i}"))


def drain(batcher: Batcher) -> list[list[SequenceRequest]]:
    batches = []
    while len(batcher):
        batches.append(batcher.next_batch())
    return batches


@given(st.lists(st.lists(st.integers(1, 300), max_size=40), max_size=5))
def test_every_sequence_comes_once_and_no_batch_is_too_large(jobs: list[list[int]]) -> None:
    batcher = Batcher()
    for number, lengths in enumerate(jobs):
        add(batcher, number * 1000, lengths, f"job{number}")
    batches = drain(batcher)
    ids = [request.sequence_id for batch in batches for request in batch]
    assert sorted(ids) == sorted(n * 1000 + i for n, lengths in enumerate(jobs) for i in range(len(lengths)))
    for batch in batches:
        lengths = [len(request.prompt_ids) for request in batch]
        padded = max(lengths) * len(batch)
        assert len(batch) == 1 or padded <= MAX_BATCH_TOKENS
        assert padded - sum(lengths) <= MAX_PADDING_TOKENS
    assert batcher.next_batch() == []


def test_small_requests_of_many_jobs_share_a_batch() -> None:
    batcher = Batcher()
    for i in range(16):
        add(batcher, i, [4 + i % 5], f"job{i}")
    assert [len(batch) for batch in drain(batcher)] == [16]


def test_a_small_job_waits_for_one_turn_of_a_large_one_only() -> None:
    batcher = Batcher()
    add(batcher, 0, [250] * 400, "large")
    for _ in range(10):
        batcher.next_batch()
    add(batcher, 1000, [5], "small")
    waited = 0
    while 1000 not in [request.sequence_id for request in batcher.next_batch()]:
        waited += 1
    assert waited <= 1


def test_texts_that_yield_wait_for_others_and_have_their_turn() -> None:
    passes = Passes()
    for i in range(4):
        passes.add(SequenceRequest(i, [1] * 1024, key=f"patient{i}/0", yields=True))
        passes.add(SequenceRequest(10 + i, [1] * 1024, key=f"other{i}/0"))
    order = [request.sequence_id for _ in range(8) for request in passes.next_batch()]
    assert order == [10, 11, 12, 0, 13, 1, 2, 3]
    assert passes.next_batch() == []


def test_a_text_that_yields_can_be_taken_out() -> None:
    passes = Passes()
    passes.add(SequenceRequest(1, [1], key="a/0", yields=True))
    assert passes.remove(1)
    assert not passes.remove(1)
    assert passes.next_batch() == []


def test_a_long_text_has_its_turn_however_many_short_ones_come() -> None:
    batcher, waited = Batcher(), 0
    add(batcher, 0, [400], "long")
    add(batcher, 1, [10] * 30, "short")
    while 0 not in [request.sequence_id for request in batcher.next_batch()]:
        waited += 1
        add(batcher, 1000 * waited, [10] * 30, f"short{waited}")
    assert waited < OLDEST_EACH


def test_a_pass_is_as_long_as_a_short_text_may_wait() -> None:
    batcher = Batcher()
    for _ in range(20):
        batcher.pace.note(1.0, tokens=1000, decoding=False)
    add(batcher, 0, [50] * 100)
    assert [len(batch) for batch in drain(batcher)][:2] == [12, 12], "of 0.6 s each"


def test_a_sequence_that_was_removed_does_not_come() -> None:
    batcher = Batcher()
    add(batcher, 0, [5, 5, 5])
    assert batcher.remove(1)
    assert not batcher.remove(1)
    assert not batcher.remove(77)
    assert [request.sequence_id for request in batcher.next_batch()] == [0, 2]
    assert len(batcher) == 0
