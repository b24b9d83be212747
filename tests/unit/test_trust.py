"""When the keeper may judge what it sees, over a clock that the tests turn."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.cluster.trust import GAP_S, Trust


@dataclass
class Clocks:
    """A steady clock, and that of Redis' host."""

    steady_s: float = 1_000.0
    redis_ms: int = 1_700_000_000_000

    def __call__(self) -> float:
        return self.steady_s

    def go(self, seconds: float) -> None:
        self.steady_s += seconds
        self.redis_ms += int(1000 * seconds)


def rounds(trust: Trust, clocks: Clocks, count: int, *, run_id: str = "a") -> None:
    for _ in range(count):
        clocks.go(1)
        trust.tick()
        trust.observe(run_id, clocks.redis_ms)


def test_trust_grows_with_the_time_in_which_redis_was_reached() -> None:
    clocks = Clocks()
    trust = Trust(clocks)
    rounds(trust, clocks, 5)
    assert trust.held_for(4.5)
    assert not trust.held_for(5.5)


def test_an_outage_and_another_process_begin_it_anew() -> None:
    clocks = Clocks()
    trust = Trust(clocks)
    rounds(trust, clocks, 5)
    trust.lose("Redis does not answer")
    rounds(trust, clocks, 2)
    assert not trust.held_for(2.5)
    rounds(trust, clocks, 5)
    rounds(trust, clocks, 1, run_id="b")
    assert not trust.held_for(0.5)


def test_a_process_that_was_stopped_trusts_nothing_but_a_slow_one_does() -> None:
    clocks = Clocks()
    trust = Trust(clocks)
    rounds(trust, clocks, 5)
    for _ in range(10):  # a round of 10 s that is at work all the time
        clocks.go(1)
        trust.tick()
    trust.observe("a", clocks.redis_ms)
    assert trust.held_for(14)
    clocks.go(GAP_S + 1)
    trust.tick()
    assert not trust.held_for(0.5)


def test_a_jump_of_the_clock_either_way_is_noticed_and_ages_no_job() -> None:
    for jump_ms in (7_200_000, -7_200_000):
        clocks = Clocks()
        trust = Trust(clocks)
        rounds(trust, clocks, 5)
        made_ms = clocks.redis_ms
        clocks.redis_ms += jump_ms
        rounds(trust, clocks, 3)
        assert not trust.held_for(3)
        assert 1 <= trust.age_s(clocks.redis_ms, made_ms) <= 3
        young_ms = clocks.redis_ms
        rounds(trust, clocks, 4)
        assert trust.age_s(clocks.redis_ms, young_ms) == 4


def test_a_jump_during_an_outage_is_noticed_too() -> None:
    clocks = Clocks()
    trust = Trust(clocks)
    rounds(trust, clocks, 5)
    trust.lose("Redis does not answer")
    clocks.go(20)
    clocks.redis_ms += 60_000
    rounds(trust, clocks, 3)
    assert trust.age_s(clocks.redis_ms, clocks.redis_ms - 80_000) <= 3


def test_ages_are_what_they_are_while_the_clock_goes_on() -> None:
    clocks = Clocks()
    trust = Trust(clocks)
    rounds(trust, clocks, 2)
    assert trust.age_s(clocks.redis_ms, clocks.redis_ms - 600_000) == 600
    assert trust.age_s(clocks.redis_ms, clocks.redis_ms + 5) == 0
