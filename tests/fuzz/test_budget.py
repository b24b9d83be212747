"""The fuzz tests' own helper: that they hunt at all, go the same way in a build, and show what they find."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz import budget as module
from tests.fuzz.budget import budget, rounds


def hunt(monkeypatch: pytest.MonkeyPatch, seconds: float) -> tuple[int, list[int]]:
    seen: list[int] = []

    @budget(examples=5)
    @given(number=st.integers())
    def test(number: int) -> None:
        seen.append(number)

    monkeypatch.setattr(module, "FUZZ_S", seconds)
    monkeypatch.setattr(module, "LONG", False)
    return rounds(test, {}), seen


def test_without_time_there_is_one_round_and_always_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    count, seen = hunt(monkeypatch, 0)

    assert count == 1
    assert len(seen) == 5
    assert hunt(monkeypatch, 0)[1] == seen


def test_with_time_there_are_more_and_each_looks_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    count, seen = hunt(monkeypatch, 0.5)

    assert count > 1
    assert len(set(seen)) > 5


def test_the_smallest_failing_example_is_shown_with_the_line_that_repeats_it() -> None:
    @budget()
    @given(number=st.integers())
    def test(number: int) -> None:
        assert number < 100

    with pytest.raises(AssertionError) as caught:
        rounds(test, {})

    notes = "\n".join(caught.value.__notes__)
    assert "number=100" in notes
    assert "reproduce_failure" in notes
