"""How long a job is expected to wait, from what replicas have measured."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.scheduling.capacity import FALL_S, LONGEST_S, RISE_S, Capacity, ServiceTime, SlotMean

CAPACITIES = st.builds(
    Capacity,
    slots=st.floats(0, 64),
    free=st.integers(0, 8),
    slot_s=st.just(0.0) | st.floats(1e-4, 3600),
    others=st.integers(0, 300),
)
POSITIONS = st.integers(1, 100_000)


def test_who_is_within_the_free_slots_does_not_wait() -> None:
    capacity = Capacity(slots=8, free=3, slot_s=4.0)
    assert [capacity.wait_s(position) for position in (1, 3, 4, 7)] == [0.0, 0.0, 0.5, 2.0]


def test_nobody_knows_how_long_before_a_job_has_ended() -> None:
    capacity = Capacity(slots=8, free=1, slot_s=0.0)
    assert (capacity.wait_s(1), capacity.wait_s(2), capacity.last_position(10)) == (0.0, None, 0)


def test_interactive_jobs_before_a_background_job_are_in_the_slots_that_these_leave() -> None:
    """A flood of them does not make it wait longer than they hold slots: its share is owed."""
    capacity = Capacity(slots=2.0, free=0, slot_s=4.0, others=500)
    assert [capacity.wait_s(position) for position in (501, 503, 7)] == [2.0, 6.0, 2.0]


@given(CAPACITIES, POSITIONS)
def test_a_wait_is_0_only_where_a_slot_is_free_and_grows_with_the_position(capacity: Capacity, position: int) -> None:
    wait_s, next_s = capacity.wait_s(position), capacity.wait_s(position + 1)
    assert (wait_s == 0.0) is (position <= capacity.free)
    assert wait_s is None or 0 <= wait_s <= LONGEST_S
    if wait_s and next_s:
        assert wait_s <= next_s <= wait_s + 1.001 * capacity.slot_s / capacity.slots
    if not capacity.slot_s:
        assert wait_s in (0.0, None)


@given(st.floats(0, 32), st.lists(st.floats(0, 32), min_size=1), POSITIONS)
def test_what_jobs_get_in_one_moment_moves_a_wait_by_a_part_only(
    slots: float, samples: list[float], position: int
) -> None:
    """Samples come each second: none makes a wait longer by more than a tenth."""
    gets = SlotMean(slots)
    for second, sample in enumerate(samples):
        before = gets.mean
        gets.note(second, sample)
        assert min(before, sample) - 1e-9 <= gets.mean <= max(before, sample) + 1e-9
        assert abs(gets.mean - before) <= 32 / RISE_S
    then = Capacity(slots=before, free=0, slot_s=2.0).wait_s(position)
    now = Capacity(slots=gets.mean, free=0, slot_s=2.0).wait_s(position)
    if then and now:
        assert now <= then / (1 - 1 / FALL_S) * 1.001


def test_the_mean_follows_what_jobs_get_within_half_a_minute() -> None:
    gets = SlotMean(8)
    for second in range(31):
        gets.note(second, 2.0)
    assert gets.mean == pytest.approx(2.0, abs=0.5)


@pytest.mark.parametrize(("timeout_s", "last"), [(0.1, 1), (5.0, 8), (10.0, 16)])
def test_the_last_position_from_which_a_job_begins_in_time(timeout_s: float, last: int) -> None:
    assert Capacity(slots=4, free=0, slot_s=2.0).last_position(timeout_s) == last


@given(CAPACITIES, st.floats(0.001, 600))
def test_who_is_at_the_last_position_begins_in_time(capacity: Capacity, timeout_s: float) -> None:
    last = capacity.last_position(timeout_s)
    if last > 1:
        wait_s = replace(capacity, others=0).wait_s(last)
        assert wait_s is not None
        assert wait_s <= timeout_s


def test_the_last_jobs_count_most() -> None:
    service = ServiceTime()
    service.count(10.0)
    assert service.mean_s == 10.0
    for _ in range(100):
        service.count(2.0)
    assert service.mean_s == pytest.approx(2.0, rel=0.01)


def test_what_a_job_held_before_it_gave_way_counts_too() -> None:
    """Each is preempted after two seconds, and runs for three more."""
    service = ServiceTime()
    for _ in range(8):
        service.count(2.0, ended=False)
        assert service.mean_s == 0.0, "none has ended"
    service.count(3.0)
    assert service.mean_s == 3.0
    for _ in range(100):
        service.count(3.0)
        service.count(2.0, ended=False)
    assert service.mean_s == pytest.approx(5.0, rel=0.05)
