"""What a step takes by how many sequences it holds, as it is learned."""

from __future__ import annotations

import random

import pytest

from workers.engines.steps import MOST_CHANGE, StepTimes

BASE_S, EACH_S = 0.01, 0.001


def learned(*sequences: int, base_s: float = BASE_S, each_s: float = EACH_S) -> StepTimes:
    times = StepTimes()
    for n in sequences:
        times.note(base_s + each_s * n, sequences=n)
    return times


def test_nothing_is_known_before_a_step() -> None:
    assert (StepTimes().base_s, StepTimes().each_s) == (0, 0)


def test_as_long_as_all_steps_are_alike_each_sequence_costs_its_part() -> None:
    times = learned(*[32] * 50)
    assert times.base_s == pytest.approx(0, abs=1e-9)
    assert times.each_s == pytest.approx((BASE_S + 32 * EACH_S) / 32)


@pytest.mark.parametrize("base_s", [0.0, BASE_S])
@pytest.mark.parametrize("each_s", [0.0, EACH_S])
def test_a_few_steps_with_fewer_sequences_tell_what_one_costs(base_s: float, each_s: float) -> None:
    times = learned(*[32] * 200, *[6] * 20, base_s=base_s, each_s=each_s)
    assert times.base_s == pytest.approx(base_s, rel=0.01, abs=1e-9)
    assert times.each_s == pytest.approx(each_s, rel=0.01, abs=1e-9)


def test_what_a_sequence_costs_is_kept_while_all_steps_are_alike_again() -> None:
    times = learned(*range(1, 33), *[32] * 20_000)
    assert times.each_s == pytest.approx(EACH_S, rel=0.05)
    assert times.base_s == pytest.approx(BASE_S, rel=0.2)


def test_it_follows_a_device_that_becomes_slower() -> None:
    times = learned(*range(1, 33))
    rng = random.Random(1)
    for _ in range(5_000):
        n = rng.randint(1, 32)
        times.note(2 * (BASE_S + EACH_S * n), sequences=n)
    assert times.each_s == pytest.approx(2 * EACH_S, rel=0.05)
    assert times.base_s == pytest.approx(2 * BASE_S, rel=0.05)


def test_one_step_in_which_the_process_was_stopped_says_little() -> None:
    times = learned(*range(1, 33))
    before = times.base_s + 16 * times.each_s
    times.note(60.0, sequences=16)
    assert times.base_s + 16 * times.each_s < before * (1 + MOST_CHANGE / 32)
