"""How long an engine may be silent."""

from __future__ import annotations

from workers.replica.stall import stall_limit_s


def test_an_engine_without_a_warm_up_has_the_limit_that_is_set() -> None:
    assert stall_limit_s(3.0, 0.0, prefilling=False) == 3.0
    assert stall_limit_s(3.0, 0.0, prefilling=True) == 3.0


def test_a_fast_engine_has_the_limit_that_is_set_and_more_while_it_computes_prompts() -> None:
    assert stall_limit_s(30.0, 0.02, prefilling=False) == 30.0
    assert stall_limit_s(30.0, 0.02, prefilling=True) > 30.0


def test_a_slow_engine_has_as_long_as_its_own_steps_need() -> None:
    assert stall_limit_s(30.0, 4.0, prefilling=False) == 80.0
    assert stall_limit_s(30.0, 4.0, prefilling=True) == 320.0
