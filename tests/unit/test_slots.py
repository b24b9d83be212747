"""Slots of a batch, as tickets."""

from __future__ import annotations

from workers.replica.slots import Slots


def test_a_job_larger_than_the_batch_takes_all_of_it() -> None:
    slots = Slots(4)
    ticket = slots.hold(9)
    assert (ticket.slots, slots.free) == (4, 0)


def test_slots_that_are_given_back_twice_are_free_once() -> None:
    slots = Slots(4)
    first, second = slots.hold(1), slots.hold(1)
    slots.give_back(first)
    slots.give_back(first)
    assert slots.free == 3
    slots.give_back(second)
    assert slots.free == 4


def test_slots_may_be_promised_that_are_about_to_be_free() -> None:
    slots = Slots(2)
    old = slots.hold(2)
    slots.hold(1)
    assert slots.free == -1
    slots.give_back(old)
    assert slots.free == 1
