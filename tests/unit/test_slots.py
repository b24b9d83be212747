"""Who waits for slots in the batch gets them in turn, however many it needs."""

from __future__ import annotations

import threading

from tests.stack import eventually
from workers.replica.slots import Slots


def waiting(slots: Slots, count: int) -> None:
    """Return when so many threads wait."""
    eventually(lambda: len(slots._changed._waiters) == count, f"{count} wait")  # type: ignore[attr-defined]


def test_a_job_that_needs_many_slots_is_not_overtaken() -> None:
    slots = Slots(4)
    assert [slots.take(1) for _ in range(4)] == [1] * 4
    order: list[str] = []

    def take(name: str, count: int) -> None:
        slots.take(count)
        order.append(name)

    threads = [threading.Thread(target=take, args=one, daemon=True) for one in (("many", 3), ("one", 1), ("two", 2))]
    for number, thread in enumerate(threads, 1):
        thread.start()
        waiting(slots, number)
    for _ in range(2):
        slots.give_back(1)
    waiting(slots, 3)
    assert order == [], "two slots are free, and who is first needs three"
    slots.give_back(1)
    threads[0].join(10)
    waiting(slots, 2)
    slots.give_back(3)
    for thread in threads:
        thread.join(10)
    assert order[0] == "many"
    assert sorted(order) == ["many", "one", "two"]


def test_a_job_that_is_larger_than_the_batch_takes_all_of_it() -> None:
    slots = Slots(4)
    assert slots.take(9) == 4
    slots.give_back(4)
    assert slots.take(1) == 1
