"""What things cost as a cluster grows: commands and bytes of a real Redis, under the product's own workers and agents.

What one request, one token or one page of a model costs stays as it is; what all replicas do grows as they do, no
faster. `make bench ARGS="--only scale"` measures the same at a thousand replicas.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from tests.bench.scale.cost import Cost
from tests.bench.scale.measure import measurement

SMALL, LARGE = 10, 30
#: Costs the same however many replicas, nodes and models there are.
CONSTANT = (
    "a token of a job",
    "submit, the first in half a second",
    "submit, the next",
    "ask, claim, begin two",
    "GET /models/{id}",
    "a replica ends",
)
#: Costs so much for each replica.
LINEAR = (
    "replicas, a second",
    "replicas with jobs, a second",
    "agents, a second",
    "keeper, a round",
    "keeper with jobs, a round",
    "hub, a renewal of its leases",
    "GET /models",
    "GET /models/local",
    "GET /health/ready",
    "GET /models/{id}, of one that nobody has loaded",
    "GET /models/{id}, of one that nobody has",
    "plan a deployment",
)
#: What a worker does once in some seconds falls into one look or into another. Three times as many replicas would show.
SLACK = 1.2

Costs = Mapping[int, Mapping[str, Cost]]


@pytest.fixture(scope="module")
def costs() -> Iterator[Costs]:
    found = {}
    for count in (SMALL, LARGE):
        with measurement(count, times=1) as one:
            found[count] = one.costs()
    yield found


def test_all_that_is_measured_is_judged(costs: Costs) -> None:
    assert set(costs[SMALL]) == set(costs[LARGE]) == {*CONSTANT, *LINEAR}
    assert all(cost.commands >= 3 for cost in costs[SMALL].values()), "nothing was left undone"


@pytest.mark.parametrize("what", CONSTANT)
def test_what_one_request_costs_does_not_grow_with_the_cluster(costs: Costs, what: str) -> None:
    small, large = costs[SMALL][what], costs[LARGE][what]
    assert large.commands <= SLACK * small.commands
    assert large.trips <= SLACK * small.trips
    assert large.sent + large.received <= SLACK * (small.sent + small.received)


@pytest.mark.parametrize("what", LINEAR)
def test_what_all_do_grows_no_faster_than_the_cluster(costs: Costs, what: str) -> None:
    small, large, times = costs[SMALL][what], costs[LARGE][what], SLACK * LARGE / SMALL
    assert large.commands <= times * small.commands
    assert large.trips <= times * small.trips
    assert large.sent + large.received <= times * (small.sent + small.received)
