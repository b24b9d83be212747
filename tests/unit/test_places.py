"""Who waits for places in the batch gets them in turn, however many it needs."""

from __future__ import annotations

import threading

from tests.stack import eventually
from workers.handlers.prompts import Places


def waiting(places: Places, count: int) -> None:
    """Return when so many threads wait."""
    eventually(lambda: len(places._changed._waiters) == count, f"{count} wait")  # type: ignore[attr-defined]


def test_a_job_that_needs_many_places_is_not_overtaken() -> None:
    places = Places(4)
    assert [places.take(1) for _ in range(4)] == [1] * 4
    order: list[str] = []

    def take(name: str, count: int) -> None:
        places.take(count)
        order.append(name)

    threads = [threading.Thread(target=take, args=one, daemon=True) for one in (("many", 3), ("one", 1), ("two", 2))]
    for number, thread in enumerate(threads, 1):
        thread.start()
        waiting(places, number)
    for _ in range(2):
        places.give_back(1)
    waiting(places, 3)
    assert order == [], "two places are free, and who is first needs three"
    places.give_back(1)
    threads[0].join(10)
    waiting(places, 2)
    places.give_back(3)
    for thread in threads:
        thread.join(10)
    assert order[0] == "many"
    assert sorted(order) == ["many", "one", "two"]


def test_a_job_that_is_larger_than_the_batch_takes_all_of_it() -> None:
    places = Places(4)
    assert places.take(9) == 4
    places.give_back(4)
    assert places.take(1) == 1
