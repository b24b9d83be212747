"""Who gives slots to whom, and when background jobs come first: pure decisions."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.scheduling.policy import BackgroundShare, Holder, Preemption

NUMBERS = itertools.count()


def holder(key: str = "a", *, background: bool = False, slots: int = 1, times: int = 0) -> Holder:
    """Each is younger than those before it."""
    number = next(NUMBERS)
    return Holder(f"job{number}", key, slots, background, float(number), times)


def test_the_youngest_background_jobs_give_their_slots() -> None:
    old, young, interactive = holder(background=True), holder(background=True), holder()
    holders = [young, interactive, old]
    policy = Preemption()
    assert policy.background_slots(holders, owed=False) == 2
    assert policy.victims(holders, 1) == [young]
    assert policy.victims(holders, 2) == [young, old]


def test_background_jobs_keep_their_slots_while_they_have_not_had_their_share() -> None:
    assert Preemption().background_slots([holder(background=True)], owed=True) == 0


def test_a_job_that_gave_way_often_enough_stays() -> None:
    often, once = holder(background=True, times=3), holder(background=True, times=2)
    policy = Preemption(most_times=3)
    assert policy.background_slots([often, once], owed=False) == 1
    assert policy.victims([once, often], 2) == [once]


def test_a_key_gives_what_it_holds_above_half_of_the_batch() -> None:
    flood = [holder("flood") for _ in range(8)]
    policy = Preemption()
    assert policy.crowded_slots(flood, 8) == 4
    assert policy.crowded_slots(flood[:4], 8) == 0
    assert policy.crowded_slots([*flood[:5], holder("b")], 8) == 1
    assert policy.victims([*flood, holder("b")], 1) == [flood[-1]]


def test_nothing_is_taken_back_where_that_is_turned_off() -> None:
    holders = [holder(background=True), *(holder() for _ in range(8))]
    policy = Preemption(enabled=False)
    assert policy.background_slots(holders, owed=False) == policy.crowded_slots(holders, 8) == 0
    assert policy.victims(holders, 4) == []


@pytest.mark.parametrize(("background", "owed"), [(0, True), (9, True), (11, False)])
def test_a_share_is_owed_until_it_was_had(background: int, owed: bool) -> None:
    share = BackgroundShare(0.1)
    share.count(0.0, background=background, interactive=100 - background)
    assert share.owed is owed


def test_a_share_that_was_had_long_ago_is_owed_again() -> None:
    share = BackgroundShare(0.1)
    share.count(0.0, background=1000, interactive=0)
    assert not share.owed
    for second in range(1, 200):
        share.count(float(second), background=0, interactive=50)
    assert share.owed


def test_nothing_is_owed_where_there_is_no_share_or_nothing_was_made() -> None:
    none = BackgroundShare(0.0)
    none.count(0.0, background=0, interactive=100)
    assert not none.owed
    assert not BackgroundShare(0.1).owed


def test_a_background_job_starts_first_once_in_so_many_starts() -> None:
    share = BackgroundShare(0.25)
    share.count(0.0, background=0, interactive=100)
    begun = ""
    for _ in range(15):
        first = share.is_next
        share.started(background=int(first), interactive=int(not first))
        begun += "b" if first else "i"
    assert begun == "iiiib" * 3
    share.count(0.0, background=100, interactive=0)
    share.started(background=0, interactive=8)
    assert not share.is_next, "it has had its share of the tokens"


@given(share=st.floats(0.001, 1.0), frees=st.lists(st.integers(1, 64), max_size=200))
def test_a_background_job_that_is_owed_waits_for_no_more_starts_than_the_page_says(
    share: float, frees: list[int]
) -> None:
    """A replica asks when it has some slots free, and somebody waits for all of them."""
    policy = BackgroundShare(share)
    policy.count(0.0, background=0, interactive=1_000)
    before = 0
    for free in frees:
        first = policy.is_next
        policy.started(background=int(first), interactive=free - int(first))
        before = 0 if first else before + free
        assert before < math.ceil(1 / share) + max(frees)
