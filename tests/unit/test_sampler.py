"""The sampler of the transformers engine, against the library's own processors and plain arithmetic."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy
import pytest
import torch
from transformers.generation.logits_process import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from tests import engines
from workers.engines.base import Sampling, SequenceRequest
from workers.engines.pytorch.row import Row
from workers.engines.pytorch.sampler import draw, key_of, noise

VOCABULARY = 800
DEVICE = torch.device(engines.DEVICE.lower())
SEEDED = Sampling(100, temperature=1.0, seed=7)


def row(sampling: Sampling, prompt: Sequence[int] = (1, 2, 3), answer: Sequence[int] = ()) -> Row:
    return Row(SequenceRequest(0, [*prompt, *answer], sampling, generated=len(answer)), sampling)


def scores_of(count: int, *, seed: int = 0, spread: float = 3.0) -> torch.Tensor:
    return torch.randn((count, VOCABULARY), generator=torch.Generator().manual_seed(seed)) * spread


def drawn(logits: torch.Tensor, rows: Sequence[Row]) -> list[int]:
    return draw(logits.to(DEVICE), rows, lambda scores, rows: None).tolist()


def noise_of(keys: Sequence[int]) -> torch.Tensor:
    return noise(keys, VOCABULARY, DEVICE).cpu()


def test_noise_is_the_counter_that_it_is_said_to_be() -> None:
    """The same in 32-bit integers of Python, so that it is the same on every device and in every version."""
    keys = [key_of(5, 0), key_of(5, 1), 2**64 - 1]
    found = noise_of(keys)
    for at, key in enumerate(keys):
        for token in (0, 1, 2, 99, VOCABULARY - 1):
            mixed = (token * 0x9E3779B1 & 0xFFFFFFFF) ^ (key & 0xFFFFFFFF)
            mixed = ((mixed ^ mixed >> 16) * 0x85EBCA6B + (key >> 32)) & 0xFFFFFFFF
            mixed = ((mixed ^ mixed >> 13) * 0xC2B2AE35) & 0xFFFFFFFF
            uniform = (((mixed ^ mixed >> 16) & 0x7FFFFFFF) + 0.5) / 2**31
            assert float(found[at, token]) == pytest.approx(-math.log(-math.log1p(-uniform)), abs=1e-4)
    assert key_of(0, 0) == 0xE220A8397B1DCDAF  # the first number of SplitMix64, as it is published
    assert len({key_of(seed, at) for seed in (-1, 0, 1, 2**63, 2**64 - 2) for at in range(1000)}) == 5000


def test_noise_is_gumbel_noise_and_no_row_tells_of_another() -> None:
    found = noise_of([key_of(seed, at) for seed in range(20) for at in range(20)]).double()
    assert float(found.mean()) == pytest.approx(0.5772, abs=0.01)
    assert float(found.var()) == pytest.approx(math.pi**2 / 6, abs=0.02)
    uniform = torch.exp(-torch.exp(-found))
    for other in (uniform.roll(1, 0), uniform.roll(1, 1), uniform.roll(20, 0)):
        pairs = torch.stack([uniform.flatten(), other.flatten()])
        assert abs(float(torch.corrcoef(pairs)[0, 1])) < 0.01
    # Rare events, too: a token that has one chance in 10,000 is the only one that matters there.
    assert float((uniform > 1 - 1e-4).double().mean()) == pytest.approx(1e-4, rel=0.25)


def test_tokens_come_as_often_as_they_should() -> None:
    logits = torch.tensor([[math.log(p) for p in (0.5, 0.25, 0.15, 0.0999, 0.0001)]])
    answer: list[int] = []
    counts: Counter[int] = Counter()
    for _ in range(20_000):
        one = row(SEEDED, answer=answer)
        counts.update(drawn(logits, [one]))
        answer.append(0)
    assert [counts[i] / 20_000 for i in range(4)] == pytest.approx([0.5, 0.25, 0.15, 0.1], abs=0.012)
    assert counts[4] < 10


@pytest.mark.parametrize("seed", range(40))
def test_filters_leave_what_the_libraries_leave(seed: int) -> None:
    """The best of the noised scores among those that the processors of transformers keep, for rows of all kinds."""
    chosen = random.Random(seed)
    logits = scores_of(24, seed=seed, spread=chosen.choice([0.1, 1.0, 4.0]))
    rows = []
    for _ in range(24):
        sampling = Sampling(
            100,
            temperature=chosen.choice([0.0, 0.3, 1.0, 1.7]),
            top_k=chosen.choice([0, 0, 1, 5, 40, VOCABULARY, 10_000]),
            top_p=chosen.choice([1.0, 1.0, 0.0, 0.01, 0.5, 0.9, 0.999]),
            min_p=chosen.choice([0.0, 0.0, 0.05, 0.5, 1.0]),
            seed=chosen.randrange(2**40),
        )
        rows.append(row(sampling, answer=[9] * chosen.randrange(5)))
    expected = []
    for one, scores in zip(rows, logits, strict=True):
        wanted, left = one.sampling, scores[None].double()
        if wanted.greedy:
            expected.append(int(left.argmax()))
            continue
        left = TemperatureLogitsWarper(wanted.temperature)(None, left)
        if wanted.top_k:
            left = TopKLogitsWarper(wanted.top_k)(None, left)
        if wanted.top_p < 1:
            left = TopPLogitsWarper(wanted.top_p)(None, left)
        if wanted.min_p:
            left = MinPLogitsWarper(wanted.min_p)(None, left)
        expected.append(int((left + noise_of([key_of(one.seed, len(one.answer))])).argmax()))
    assert drawn(logits, rows) == expected


def test_who_is_beside_changes_nothing_and_scores_stay_as_they_are() -> None:
    logits = scores_of(30)
    every = [replace(SEEDED, seed=i, top_p=0.8, logit_bias={"5": 2.0}, frequency_penalty=0.5) for i in range(30)]
    kept = logits.clone()
    together = drawn(logits, [row(one, answer=[5, 5, 7]) for one in every])
    assert together == [drawn(logits[at : at + 1], [row(one, answer=[5, 5, 7])])[0] for at, one in enumerate(every)]
    assert torch.equal(logits, kept)


def test_biases_and_penalties() -> None:
    """A bias, then the repetition penalty of prompt and answer, then those of the answer alone."""
    logits, answer = scores_of(3), [4, 4, 9]
    wanted = Sampling(9, 0.0, logit_bias={"4": 1.5, "11": -2.0}, repetition_penalty=1.3, presence_penalty=0.4)
    wanted = replace(wanted, frequency_penalty=0.7)
    seen = torch.tensor([[2, 11, 4, 4, 9]])
    expected = logits[1:2].clone()
    expected[0, 4] += 1.5
    expected[0, 11] -= 2.0
    expected = RepetitionPenaltyLogitsProcessor(1.3)(seen, expected)
    expected[0, 4] -= 0.4 + 2 * 0.7
    expected[0, 9] -= 0.4 + 0.7
    found: list[torch.Tensor] = []
    rows = [row(SEEDED), row(wanted, [2, 11], answer), row(SEEDED)]
    draw(logits, rows, lambda scores, rows: found.append(scores.clone()))
    assert torch.allclose(found[0][1], expected[0])
    assert torch.equal(found[0][[0, 2]], logits[[0, 2]])
    rows[1].add(9)
    draw(logits, rows, lambda scores, rows: found.append(scores.clone()))
    assert float(found[0][1, 9] - found[1][1, 9]) == pytest.approx(0.7, abs=1e-5)


def test_scores_that_are_no_numbers_end_no_batch() -> None:
    logits = scores_of(3)
    logits[1] = torch.nan
    filtered = replace(SEEDED, top_p=0.5, top_k=7, min_p=0.1)
    found = drawn(logits, [row(filtered) for _ in range(3)])
    assert found[::2] == drawn(logits[::2], [row(filtered) for _ in range(2)])
    assert 0 <= found[1] < VOCABULARY
    assert numpy.isfinite(found).all()


def test_what_is_no_number_is_refused_where_it_ends_nobody_else() -> None:
    broken: object = None
    with pytest.raises(TypeError):
        row(replace(SEEDED, temperature=broken))  # type: ignore[arg-type]
