"""A consumer of wake-up messages that should be at work, and is not, is found out."""

from __future__ import annotations

import time

import pytest

from workers.replica.consumer_watch import DEAF_S, ConsumerWatch
from workers.replica.lifetime import Lifetime


@pytest.fixture
def life() -> Lifetime:
    return Lifetime()


@pytest.fixture
def watch(life: Lifetime) -> ConsumerWatch:
    return ConsumerWatch(life)


def later() -> float:
    """When a consumer that was at work just now is deaf, by the steady clock."""
    return time.monotonic() + DEAF_S + 1


def test_it_is_not_deaf_before_it_has_begun(watch: ConsumerWatch) -> None:
    watch.excuse(later())
    assert not watch.is_deaf(later() + 100)


def test_it_is_deaf_when_it_was_not_at_work_for_a_while(watch: ConsumerWatch) -> None:
    watch.at_work()
    assert not watch.is_deaf(time.monotonic())
    assert watch.is_deaf(later())


def test_time_in_which_it_could_not_work_does_not_count(watch: ConsumerWatch) -> None:
    watch.at_work()
    now = later()
    watch.excuse(now)
    assert not watch.is_deaf(now)
    assert watch.is_deaf(now + DEAF_S + 1)


@pytest.mark.parametrize("end", ["stopping", "over"])
def test_it_may_be_silent_while_its_process_ends(watch: ConsumerWatch, life: Lifetime, end: str) -> None:
    watch.at_work()
    getattr(life, end).set()
    assert not watch.is_deaf(later())
