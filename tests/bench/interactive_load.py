"""Scheduling, for those who wait: interactive load beside background jobs, above capacity, and beside a flood."""

from __future__ import annotations

import random
import statistics
import time
from dataclasses import asdict
from typing import Any

from tests.bench.loaded_stack import LoadedStack, streamed
from tests.bench.visits import Client, Visit, compared, goodput_per_s, goodput_share, latency, refusals, tokens_per_s
from tests.bench.workload import prompts

BACKLOG = 200
#: Requests of the key that floods, each of so many tokens.
FLOOD, FLOOD_TOKENS = 500, 64
#: Clients that come to a full machine want their answer to begin within so long.
TIMEOUT_S = 1.5
#: How long those that came last are waited for.
TAIL_S = 20.0


def backlog(bench: LoadedStack) -> dict[str, Any]:
    """Half load without and with background jobs that wait; then the background jobs alone."""
    capacity, duration_s = bench.capacity(), bench.lasts(20)
    rate, rounds = capacity.answers_per_s / 2, 1 if bench.quick else 2
    without: list[Visit] = []
    beside: list[Visit] = []
    speeds: list[dict[str, float]] = []
    for seed in range(rounds):
        without += half_load(bench, rate, duration_s, seed)
        with bench.key("background") as key, bench.stack.client(key) as client:
            progress = Progress(bench, bench.background(client, BACKLOG))
            seen = half_load(bench, rate, duration_s, seed)
            meanwhile_s, speed = progress.lap()
            time.sleep(bench.lasts(8))
            _, alone = progress.lap()
        beside += seen
        interactive = tokens_per_s(seen, 0, meanwhile_s)
        speeds.append({"interactive": interactive, "background": speed, "background_alone": alone})
    tokens = {name: statistics.fmean(each[name] for each in speeds) for name in speeds[0]}
    return {
        "capacity": asdict(capacity),
        **compared(latency(without), latency(beside)),
        "tokens_per_s": tokens,
        "background_of_spare": tokens["background"] / (capacity.tokens_per_s - tokens["interactive"]),
        "background_of_idle": tokens["background_alone"] / capacity.tokens_per_s,
    }


def half_load(bench: LoadedStack, rate: float, duration_s: float, seed: int) -> list[Visit]:
    """Interactive clients; at the end none of theirs is left."""
    with bench.key("interactive") as key:
        return bench.visits(bench.arrivals(rate, duration_s, key, seed), duration_s + TAIL_S)


class Progress:
    """Tokens a second of some jobs, lap by lap."""

    def __init__(self, bench: LoadedStack, job_ids: list[str]) -> None:
        self._bench, self._job_ids = bench, job_ids
        self._made, self._at = bench.tokens_made(job_ids), time.monotonic()

    def lap(self) -> tuple[float, float]:
        """How long it was, in seconds, and tokens a second in it."""
        made, at = self._bench.tokens_made(self._job_ids), time.monotonic()
        seconds, tokens = at - self._at, made - self._made
        self._made, self._at = made, at
        return seconds, tokens / seconds


def nearly_full(bench: LoadedStack) -> dict[str, Any]:
    """Nine tenths of what can be done."""
    capacity, duration_s = bench.capacity(), bench.lasts(24)
    with bench.key("interactive") as key:
        clients = bench.arrivals(0.9 * capacity.answers_per_s, duration_s, key, seed=90)
        seen = bench.visits(clients, duration_s + TAIL_S)
    return {"capacity": asdict(capacity), **latency(seen), "goodput_share": goodput_share(seen)}


def overload(bench: LoadedStack) -> dict[str, Any]:
    """Half more than can be done, by clients that say how long they would wait; who is refused comes back when told.

    They have as long again to get in.
    """
    before, duration_s = bench.capacity(), bench.lasts(40)
    with bench.key("interactive") as key:
        clients = bench.arrivals(1.5 * before.answers_per_s, duration_s, key, seed=150, obeys=True, timeout_s=TIMEOUT_S)
        seen = bench.visits(clients, 2 * duration_s)
    after = bench.capacity()
    rate = (before.answers_per_s + after.answers_per_s) / 2
    good = goodput_per_s(seen, duration_s / 4, duration_s)
    return {
        "capacity": asdict(before),
        "capacity_after": asdict(after),
        **latency(seen),
        "goodput_per_s": good,
        "goodput_of_capacity": good / rate,
        **refusals(seen),
    }


def flood(bench: LoadedStack) -> dict[str, Any]:
    """A key that sends one request a second, alone and then beside one that has sent hundreds at once."""
    duration_s = bench.lasts(20)
    with bench.key("quiet") as key:
        alone = latency(bench.visits(one_each_second(bench, key, duration_s), duration_s + TAIL_S))
    with bench.key("quiet") as key, bench.key("floods") as other:
        texts = prompts(FLOOD, salt=1_000_000)
        flooding = [Client(0, other, streamed(text, FLOOD_TOKENS)) for text in texts]
        seen = bench.visits([*flooding, *one_each_second(bench, key, duration_s)], duration_s + TAIL_S)
    return {**compared(alone, latency(seen[FLOOD:])), "flood": latency(seen[:FLOOD])}


def one_each_second(bench: LoadedStack, key: str, duration_s: float) -> list[Client]:
    """From the first second on, so that a flood at the start is there before them."""
    bodies = bench.bodies(int(duration_s), random.Random(1))
    return [Client(at_s, key, body) for at_s, body in enumerate(bodies, start=1)]
