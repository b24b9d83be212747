"""How long a job is expected to wait, from what replicas have measured."""

from __future__ import annotations

import pytest

from gateway.scheduling.capacity import Capacity, ServiceTime


def test_who_is_within_the_free_slots_does_not_wait() -> None:
    capacity = Capacity(slots=8, free=3, slot_s=4.0)
    assert [capacity.wait_s(position) for position in (1, 3, 4, 7)] == [0.0, 0.0, 0.5, 2.0]


def test_nobody_knows_how_long_before_a_job_has_ended() -> None:
    capacity = Capacity(slots=8, free=1, slot_s=0.0)
    assert (capacity.wait_s(1), capacity.wait_s(2), capacity.last_position(10)) == (0.0, None, 0)


@pytest.mark.parametrize(("timeout_s", "last"), [(0.1, 1), (5.0, 8), (10.0, 16)])
def test_the_last_position_from_which_a_job_begins_in_time(timeout_s: float, last: int) -> None:
    assert Capacity(slots=4, free=0, slot_s=2.0).last_position(timeout_s) == last


def test_the_last_jobs_count_most() -> None:
    service = ServiceTime()
    service.count(10.0)
    assert service.mean_s == 10.0
    for _ in range(100):
        service.count(2.0)
    assert service.mean_s == pytest.approx(2.0, rel=0.01)
