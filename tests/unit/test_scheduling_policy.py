"""Who gives slots to whom, and when background jobs come first: pure decisions."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.scheduling.policy import (
    BACKGROUND_STRETCH,
    CROWD_SHARE,
    CROWD_STRETCH,
    PRESENT_S,
    SLACK,
    BackgroundShare,
    Holder,
    Preemption,
    Presence,
    SlotLimits,
)

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


SLOTS = 32
ALL = SlotLimits(SLOTS, SLOTS)
#: A device on which each sequence makes a step longer by a tenth of what a step takes in any case, and one where it
#: costs nothing.
SLOW, FLAT = (0.01, 0.001), (0.01, 1e-9)


def present(*keys: str, slots: int = 4, seconds: float = 60.0) -> Presence:
    """Jobs of these keys hold slots for some time."""
    presence = Presence(SLOTS, 0.1)
    for tenth in range(int(10 * seconds)):
        presence.note(tenth / 10, dict.fromkeys(keys, slots))
    return presence


def test_who_is_alone_may_have_all_slots() -> None:
    assert Presence(SLOTS, 0.1).limits(*SLOW) == ALL
    assert present("a").limits(*SLOW).one_key == SLOTS


def test_beside_others_only_so_many_as_make_a_step_a_bit_longer() -> None:
    limits = present("a", "b").limits(*SLOW)
    assert limits.background == round(BACKGROUND_STRETCH * (10 + 8))
    assert limits.one_key == round(CROWD_STRETCH * (10 + 4))


def test_where_a_sequence_costs_nothing_or_nobody_knows_nobody_keeps_back() -> None:
    assert present("a", "b").limits(*FLAT) == present("a", "b").limits(0, 0) == ALL


def test_a_key_keeps_its_part_of_the_batch_in_any_case() -> None:
    assert present("a", "b").limits(0.0, 1.0).one_key == math.ceil(CROWD_SHARE * SLOTS)


@pytest.mark.parametrize(("share", "least"), [(0.0, 1), (0.1, 4), (0.5, 16)])
def test_background_jobs_keep_the_slots_of_their_share_and_one_at_least(share: float, least: int) -> None:
    presence = Presence(SLOTS, share)
    presence.note(0, {"a": 1})
    assert presence.limits(0.0, 1.0).background == least


def test_all_slots_are_theirs_again_when_the_others_have_not_come_for_a_while() -> None:
    presence = present("a", "b", seconds=10)
    presence.note(10 + PRESENT_S / 2, {})
    assert presence.limits(*SLOW) != ALL
    presence.note(10 + 2 * PRESENT_S, {})
    assert presence.limits(*SLOW) == ALL


def test_who_holds_more_than_it_may_gives_the_youngest_back() -> None:
    background = [holder(background=True) for _ in range(8)]
    limits = SlotLimits(background=6, one_key=4)
    policy = Preemption()
    assert len(background) > SLACK * limits.background
    assert policy.excess(background, limits, owed=False) == [background[7], background[6]]
    assert policy.excess(background, limits, owed=True) == []
    assert policy.excess(background[:7], limits, owed=False) == [], "a limit moves all the time"
    flood = [holder("flood") for _ in range(6)]
    assert policy.excess([*flood, holder("b")], limits, owed=False) == [flood[5], flood[4]]
    assert Preemption(enabled=False).excess([*background, *flood], limits, owed=False) == []


def test_a_limit_is_reached_that_keeps_somebody_from_free_slots() -> None:
    limits = SlotLimits(background=4, one_key=16)
    assert not limits.are_reached(3, {"a": 15}, SLOTS)
    assert limits.are_reached(4, {}, SLOTS)
    assert limits.are_reached(0, {"a": 3, "b": 16}, SLOTS)
    assert not ALL.are_reached(SLOTS, {}, SLOTS), "nothing is free"


def test_one_large_job_is_not_stopped_for_holding_more_than_the_limit() -> None:
    """Nothing smaller of it can run: it would come back, and be stopped again."""
    large, small = holder(background=True, slots=32), holder(background=True, slots=2)
    assert Preemption().excess([large, small], SlotLimits(4, SLOTS), owed=False) == [small]


@pytest.mark.parametrize(("slots", "crowds"), [(7, False), (9, True)])
def test_a_key_crowds_that_has_more_than_twice_what_the_others_have(slots: int, crowds: bool) -> None:
    assert present("a", "b").crowds("c", slots) is crowds
    assert not present("c").crowds("c", slots), "nobody else is there"


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
