"""Long prompts are computed in pieces, between the tokens of others, and answers are the same as without."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.settings import Settings
from tests.engines import config_of, loaded_engine
from tests.tiny_models import save_tiny_llama
from workers.engines.base import Engine, EngineConfig, Sampling, SequenceRequest

#: Tokens of the KV cache.
CAPACITY = 2048


@pytest.fixture(scope="module")
def config() -> EngineConfig:
    """The real small model."""
    return replace(config_of("smollm2-135m", Settings(max_batch_size=8)), kv_capacity_tokens=CAPACITY)


@pytest.fixture(scope="module")
def loaded(config: EngineConfig) -> Iterator[Any]:
    """One engine for all."""
    with closing(loaded_engine(config)) as engine:
        yield engine


@pytest.fixture
def engine(loaded: Any) -> Iterator[Any]:
    """It is left without work, and as fast as it is."""
    with pytest.MonkeyPatch.context() as patch:
        # The largest piece that a slow device would take, so that it does not matter how slow this machine is now.
        patch.setattr(loaded._prefill.pace, "tokens", lambda *, decoding: 64.0)
        yield loaded
    assert not loaded.has_work()


def prompt(seed: int, length: int) -> list[int]:
    """Token ids of which no two prompts have the same."""
    chosen = random.Random(seed)
    return [chosen.randrange(100, 40_000) for _ in range(length)]


def request(sequence_id: int, length: int, *, max_tokens: int = 4, seed: int = 0) -> SequenceRequest:
    """A greedy answer to a prompt of so many tokens."""
    return SequenceRequest(sequence_id, prompt(seed or sequence_id, length), Sampling(max_tokens, 0.0))


def ends(engine: Engine) -> dict[int, tuple[list[int], str]]:
    """What each sequence has made and why it has ended, in the order of their ends."""
    made: dict[int, list[int]] = {}
    ended = {}
    while engine.has_work():
        for output in engine.step():
            made.setdefault(output.sequence_id, []).extend(output.token_ids)
            if output.finish_reason:
                assert output.error is None
                ended[output.sequence_id] = (made[output.sequence_id], output.finish_reason)
    return ended


@pytest.mark.slow
def test_an_answer_is_the_same_with_pieces_and_without(engine: Any, config: EngineConfig) -> None:
    # One at a time: some processors round otherwise in a pass with others, and choose another of two likely tokens.
    lengths = {1: 447, 2: 33}
    in_pieces = {}
    for sequence_id, length in lengths.items():
        engine.add(request(sequence_id, length, max_tokens=8))
        in_pieces |= ends(engine)
    with closing(loaded_engine(config)) as whole, pytest.MonkeyPatch.context() as patch:
        patch.setattr(whole._prefill.pace, "tokens", lambda *, decoding: 512.0)  # type: ignore[attr-defined]
        for sequence_id, length in lengths.items():
            whole.add(request(sequence_id, length, max_tokens=8))
            assert ends(whole) == {sequence_id: in_pieces[sequence_id]}


def test_a_stream_goes_on_while_a_long_prompt_is_computed_and_a_short_one_passes_it(engine: Any) -> None:
    engine.add(request(11, 20, max_tokens=200))
    while not any(output.token_ids for output in engine.step()):
        continue
    engine.add(request(12, 1000))
    engine.add(request(13, 40, max_tokens=1))
    made, steps, first = 0, 0, {}
    while 12 not in first:
        steps += 1
        for output in engine.step():
            made += len(output.token_ids) * (output.sequence_id == 11)
            if output.token_ids:
                first.setdefault(output.sequence_id, steps)
    assert first[13] <= 2
    assert first[12] >= 1000 // 64
    assert made >= steps - 1 or 11 not in engine._held, "each step makes a token of the running answer"
    engine.cancel(11)
    ends(engine)


@pytest.mark.slow
def test_a_prompt_that_is_cancelled_while_it_is_computed_leaves_its_cache(engine: Any) -> None:
    engine.add(request(21, 1900))
    for _ in range(5):
        assert engine.step() == []
    engine.cancel(21)
    engine.add(request(22, 1900))
    assert {sequence_id: finish for sequence_id, (_, finish) in ends(engine).items()} == {21: "cancelled", 22: "length"}


@pytest.mark.slow
def test_prompts_that_do_not_fit_together_come_one_behind_the_other(engine: Any) -> None:
    for sequence_id in (31, 32, 33):
        engine.add(request(sequence_id, 1200))
    ended = ends(engine)
    assert [(sequence_id, finish) for sequence_id, (_, finish) in ended.items()] == [
        (sequence_id, "length") for sequence_id in (31, 32, 33)
    ]


def test_answers_that_are_expected_to_outgrow_the_cache_together_do_not_begin_together(engine: Any) -> None:
    for sequence_id in (41, 42, 43):
        engine.add(request(sequence_id, 400, max_tokens=600))
    begun = set()
    for _ in range(30):
        engine.step()
        begun.add(tuple(sequence_id for sequence_id, held in engine._held.items() if held.begun))
    assert max(begun) == (41, 42), "400 + 512 tokens each, of 2048"
    for sequence_id in (41, 42, 43):
        engine.cancel(sequence_id)
    ends(engine)


def test_what_the_cache_has_is_not_computed_in_pieces(engine: Any) -> None:
    engine.add(request(1, 1000, seed=9))
    ends(engine)
    engine.add(request(2, 1000, max_tokens=1, seed=9))
    engine.step()
    assert not engine.has_work()


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The transformers engine, on a tiny model that takes long prompts."""
    folder = save_tiny_llama(tmp_path_factory.mktemp("llama"))
    config = EngineConfig("transformers", str(folder), "CPU", 8, 1024, kv_capacity_tokens=4096)
    with closing(loaded_engine(config)) as engine:
        yield engine


def test_transformers_computes_prompts_in_pieces_too(llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler = llama._manager.batch_processor.scheduler
    assert scheduler._prefill.pace.tokens(decoding=False) > 0, "it was measured while it was warmed up"
    lengths = {1: 600, 2: 40, 3: 333}
    asked = {i: SequenceRequest(i, [7 + i] * length, Sampling(8, 0.0)) for i, length in lengths.items()}
    for one in asked.values():
        llama.add(one)
    whole = ends(llama)
    pieces: list[int] = []
    plan = scheduler._prefill.plan

    def planned(prompts: Any, **answering: int) -> dict[int, int]:
        made: dict[int, int] = plan(prompts, **answering)
        pieces.extend(made.values())
        return made

    monkeypatch.setattr(scheduler._prefill, "plan", planned)
    monkeypatch.setattr(scheduler._prefill.pace, "tokens", lambda *, decoding: 64.0)
    monkeypatch.setattr(scheduler.cache, "use_prefix_sharing", False)
    for one in asked.values():
        llama.add(one)
    assert ends(llama) == whole
    assert max(pieces) <= 64
    assert sum(pieces) == sum(lengths.values())


def test_transformers_begins_no_prompt_whose_answer_would_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """64 + 96 tokens each, of 384: there is room for all prompts, but answers would then have to begin again."""
    folder = save_tiny_llama(tmp_path)
    config = EngineConfig("transformers", str(folder), "CPU", 8, 256, kv_capacity_tokens=384)
    asked = [SequenceRequest(i, [7 + i] * 64, Sampling(96, 0.0)) for i in range(4)]
    with closing(loaded_engine(config)) as engine:
        alone = {}
        for one in asked:
            engine.add(one)
            alone |= ends(engine)
        scheduler = engine._manager.batch_processor.scheduler
        waited, begun = list[str](), list[int]()
        wait, process = scheduler.add_waiting_request, scheduler._process_candidates

        def add_waiting(state: Any) -> None:
            waited.append(state.request_id)
            wait(state)

        def processed(*args: Any) -> Any:
            made = process(*args)
            begun.append(len(scheduler.active_requests))
            return made

        monkeypatch.setattr(scheduler, "add_waiting_request", add_waiting)
        monkeypatch.setattr(scheduler, "_process_candidates", processed)
        for one in asked:
            engine.add(one)
        assert ends(engine) == alone
    assert sorted(waited) == ["0", "1", "2", "3"], "each began once"
    assert max(begun) == 2
