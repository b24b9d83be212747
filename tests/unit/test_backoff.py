"""Pauses between tries double up to their last one, and part of them may be left to chance."""

from __future__ import annotations

import pytest

from gateway.backoff import Backoff


@pytest.mark.parametrize(("failures", "pause_s"), [(1, 0.5), (2, 1.0), (3, 2.0), (6, 16.0), (7, 30.0), (100_000, 30.0)])
def test_a_pause_doubles_up_to_the_last_one_however_often_it_was(failures: int, pause_s: float) -> None:
    assert Backoff(first_s=0.5, last_s=30.0).pause_s(failures) == pause_s


@pytest.mark.parametrize(("failures", "longest_s"), [(1, 0.5), (2, 1.0), (3, 2.0), (10, 8.0)])
def test_a_share_of_a_pause_is_left_to_chance(failures: int, longest_s: float) -> None:
    pauses = [Backoff(first_s=0.5, last_s=8.0, jitter=0.5).pause_s(failures) for _ in range(100)]
    assert longest_s / 2 <= min(pauses) < max(pauses) <= longest_s
