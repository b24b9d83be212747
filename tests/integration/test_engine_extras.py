"""What may be asked of single sequences, on the engines themselves: log probabilities, biases, penalties, seeds."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from gateway.models.engines import SPECS
from tests.engines import DEVICE, loaded_engine
from tests.tiny_models import save_tiny_gguf, save_tiny_llama
from workers.engines.base import Engine, EngineConfig, EngineRequestError, Sampling, SequenceOutput, SequenceRequest
from workers.engines.fake import VOCABULARY, FakeEngine, fake_token

PROMPT = [7, 300, 12, 90, 5, 77, 301, 13]
LONG = [(37 * i) % 500 + 3 for i in range(100)]
GREEDY = Sampling(6, temperature=0.0)
SEEDLESS = Sampling(6, temperature=1.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_llama(tmp_path_factory.mktemp("m"))


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[Engine]:
    engine = loaded_engine(EngineConfig("transformers", str(folder), DEVICE, 4, 256))
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def openvino(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    path = save_tiny_gguf(tmp_path_factory.mktemp("g") / "tiny.gguf")
    engine = loaded_engine(EngineConfig("openvino", str(path), "CPU", 2, 64))
    yield engine
    engine.close()


def run(engine: Engine, *asked: tuple[list[int], Sampling]) -> list[SequenceOutput]:
    """What each sequence has made, in one output."""
    for number, (prompt, sampling) in enumerate(asked):
        engine.add(SequenceRequest(number, prompt, sampling, key=f"job/{number}"))
    whole: dict[int, SequenceOutput] = {}
    while engine.has_work():
        for new in engine.step():
            old = whole.get(new.sequence_id, SequenceOutput(new.sequence_id, [], [], None, None, None, [], None))
            whole[new.sequence_id] = new._replace(
                token_ids=[*old.token_ids, *new.token_ids],
                logprobs=[*(old.logprobs or ()), *(new.logprobs or ())],
                likely=[*(old.likely or ()), *(new.likely or ())],
                prompt=old.prompt or new.prompt,
            )
    return [output for _, output in sorted(whole.items())]


def ids(engine: Engine, prompt: list[int], sampling: Sampling) -> list[int]:
    return list(run(engine, (prompt, sampling))[0].token_ids)


@pytest.fixture(scope="module")
def reference(folder: Path) -> Any:
    """The library's plain model: log probabilities behind each token, shape (T, V)."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)

    def logprobs(token_ids: list[int]) -> torch.Tensor:
        with torch.no_grad():
            return torch.log_softmax(model(torch.tensor([token_ids])).logits[0].float(), -1)

    return logprobs


def test_each_token_comes_with_the_likeliest_at_its_place(engine: Engine, reference: Any) -> None:
    """As the model itself has them, whatever else is in the batch, and before a temperature changes anything."""
    wanted = Sampling(6, temperature=3.0, seed=5, logprobs=True, top_logprobs=3)
    drawn, plain = run(engine, (PROMPT, wanted), (LONG, GREEDY))
    assert not plain.logprobs
    known = reference([*PROMPT, *drawn.token_ids])[len(PROMPT) - 1 : -1]
    for at, (token, logprob, likely) in enumerate(
        zip(drawn.token_ids, drawn.logprobs or (), drawn.likely or (), strict=True)
    ):
        assert logprob == pytest.approx(float(known[at, token]), abs=1e-3)
        assert [one.token_id for one in likely] == known[at].topk(3).indices.tolist()
        assert [one.logprob for one in likely] == pytest.approx(known[at].topk(3).values.tolist(), abs=1e-3)


@pytest.mark.parametrize("max_tokens", [0, 2])
def test_the_log_probabilities_of_a_prompt(engine: Engine, reference: Any, max_tokens: int) -> None:
    """Also of one whose beginning is in the cache, and beside others; without an answer, too."""
    wanted = Sampling(max_tokens, temperature=0.0, logprobs=True, top_logprobs=2, prompt_logprobs=True)
    known = reference(LONG)
    ids(engine, LONG, GREEDY)
    scored, beside = run(engine, (LONG, wanted), ([*LONG, 4], GREEDY))
    assert scored.finish_reason == "length"
    assert (len(scored.token_ids), len(beside.token_ids)) == (max_tokens, 6)
    first, *others = scored.prompt or ()
    assert first.logprob is None
    assert [one.logprob for one in others] == pytest.approx(
        [float(known[at, token]) for at, token in enumerate(LONG[1:])], abs=1e-3
    )
    assert [[two.token_id for two in one.likely] for one in others] == known[:-1].topk(2).indices.tolist()


def test_a_bias_forces_a_token_or_forbids_it(engine: Engine) -> None:
    assert ids(engine, PROMPT, replace(GREEDY, logit_bias={"44": 100.0})) == [44] * 6
    usual = ids(engine, PROMPT, GREEDY)
    assert usual[0] not in ids(engine, PROMPT, replace(GREEDY, logit_bias={str(usual[0]): -100.0}))
    with pytest.raises(EngineRequestError, match="logit_bias holds the token id 512; allowed: 0 to 511"):
        engine.add(SequenceRequest(0, PROMPT, replace(GREEDY, logit_bias={"512": 1.0})))


@pytest.mark.parametrize(
    "penalty", [{"presence_penalty": 2.0}, {"frequency_penalty": 2.0}, {"repetition_penalty": 10.0}]
)
def test_penalties_push_tokens_away_and_count_on_after_a_resume(engine: Engine, penalty: dict[str, float]) -> None:
    """Two tokens are pushed up so that they would come for ever."""
    pushed = Sampling(8, temperature=0.0, logit_bias={"44": 3.0, "45": 2.5})
    assert set(ids(engine, PROMPT, pushed)) == {44}
    penalized = replace(pushed, **penalty)
    whole = ids(engine, PROMPT, penalized)
    assert {44, 45} <= set(whole)
    engine.add(SequenceRequest(0, [*PROMPT, *whole[:3]], replace(penalized, max_tokens=5), generated=3))
    rest = []
    while engine.has_work():
        rest += [token for output in engine.step() for token in output.token_ids]
    assert rest == whole[3:]


def test_a_seed_draws_the_same_tokens_whoever_is_beside(engine: Engine) -> None:
    seeded = Sampling(12, temperature=1e3, seed=9)
    alone = ids(engine, PROMPT, seeded)
    beside = run(engine, (LONG, replace(seeded, seed=None)), (PROMPT, seeded), (PROMPT, replace(seeded, seed=10)))
    assert list(beside[1].token_ids) == alone
    assert sum(a == b for a, b in zip(alone, beside[2].token_ids, strict=True)) < 3


@pytest.mark.parametrize("number", range(5))
def test_a_seeded_answer_goes_on_as_if_nothing_had_been(engine: Engine, number: int) -> None:
    """Behind any of its tokens, beside others, with all that may change what comes."""
    chosen = random.Random(number)
    wanted = Sampling(20, temperature=1.5, seed=number, top_p=0.95, top_k=300, min_p=0.001)
    wanted = replace(wanted, presence_penalty=0.5, frequency_penalty=0.5, repetition_penalty=1.2, logprobs=True)
    (whole,) = run(engine, (PROMPT, wanted))
    made = chosen.randrange(1, 20)
    others = [SequenceRequest(i, LONG[i:], replace(SEEDLESS, max_tokens=3 * i)) for i in range(1, 3)]
    begun = [*PROMPT, *whole.token_ids[:made]]
    for request in [SequenceRequest(0, begun, replace(wanted, max_tokens=20 - made), generated=made), *others]:
        engine.add(request)
    rest: list[SequenceOutput] = []
    while engine.has_work():
        rest += [output for output in engine.step() if output.sequence_id == 0]
    assert [i for output in rest for i in output.token_ids] == list(whole.token_ids[made:])
    found = [one for output in rest for one in output.logprobs or ()]
    assert found == pytest.approx((whole.logprobs or [])[made:], abs=1e-4)


def test_min_p_leaves_only_the_likeliest(engine: Engine) -> None:
    hot = Sampling(6, temperature=1.5, seed=1, min_p=1.0)
    assert ids(engine, PROMPT, hot) == ids(engine, PROMPT, GREEDY)
    assert ids(engine, PROMPT, replace(hot, temperature=1e3, min_p=0.0)) != ids(engine, PROMPT, GREEDY)


def test_openvino_knows_min_p(openvino: Engine) -> None:
    hot = Sampling(6, temperature=2.0, seed=1, min_p=1.0)
    assert ids(openvino, PROMPT, hot) == ids(openvino, PROMPT, GREEDY)
    assert ids(openvino, PROMPT, replace(hot, min_p=0.0)) != ids(openvino, PROMPT, GREEDY)


def test_the_fake_engine_has_likely_tokens_of_its_own() -> None:
    engine = FakeEngine(EngineConfig("fake", "", "CPU", 4, 4096))
    wanted = Sampling(3, logprobs=True, top_logprobs=2, prompt_logprobs=True)
    (made,) = run(engine, ([5, 6], wanted))
    assert list(made.token_ids) == [fake_token("job/0", i) for i in range(3)]
    assert made.logprobs == [-1.0] * 3
    assert [[one.logprob for one in likely] for likely in made.likely or ()] == [[-1.0, -2.0]] * 3
    assert [one.logprob for one in made.prompt or ()] == [None, -2.0]
    (forced,) = run(engine, ([5], replace(wanted, logit_bias={"9": 100.0})))
    assert list(forced.token_ids) == [9, 9, 9]
    (scored,) = run(engine, ([5, 6], replace(wanted, max_tokens=0)))
    assert (list(scored.token_ids), scored.finish_reason, len(scored.prompt or ())) == ([], "length", 2)
    assert VOCABULARY > 50_000


def test_the_table_says_what_each_engine_can(engine: Engine, openvino: Engine) -> None:
    """The web process refuses by it what an engine would."""
    for one in (engine, openvino, FakeEngine(EngineConfig("fake", "", "CPU", 4, 64))):
        assert set(one.info.capabilities) - {"grammar"} == SPECS[one.info.name].can
