"""Measures a simulated cluster of each size: what its parts cost in a second, and what a request and a page cost."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from werkzeug.test import TestResponse

from gateway.store.cached import RECENT_S
from gateway.store.connection import connect
from gateway.store.embedded import server_command
from tests.bench.scale.cluster import UNSERVED, Cluster
from tests.bench.scale.cost import Cost, Meter
from tests.stack import eventually
from web.app import create_app

SIZES = (10, 100, 1000)
#: Jobs that each replica runs while the loaded cluster is measured.
RUNNING = 4
#: Watchers of one hub, for each replica.
WATCHED = 2
DEPLOY = "/models/local/deploy"
PLAN = {"model_type": "model-000", "replicas": 2, "dry_run": True}
PAGES = {
    "GET /models": "/models",
    "GET /models/{id}": "/models/model-000",
    "GET /models/local": "/models/local",
    "GET /health/ready": "/health/ready",
    "GET /models/{id}, of one that nobody has": f"/models/{UNSERVED}",
    "plan a deployment": DEPLOY,
}

Costs = dict[str, Cost]


@contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    """The embedded server, as the product starts it. Yields its URL."""
    socket, data = folder / "redis.sock", folder / "redis"
    data.mkdir()
    with (folder / "redis.log").open("wb") as output:
        process = subprocess.Popen(server_command(socket, data), stdout=output, stderr=output)
    try:
        eventually(socket.exists, "Redis listens")
        yield f"unix://{socket}"
    finally:
        process.terminate()
        process.wait(60)


def measure(sizes: tuple[int, ...] = SIZES) -> dict[str, Any]:
    """The costs of each size, by what costs them."""
    return {str(size): one_size(size) for size in sizes}


def one_size(count: int) -> dict[str, Any]:
    """A cluster of so many replicas: idle, then with jobs."""
    with tempfile.TemporaryDirectory(prefix="hr-") as name, redis_server(Path(name)) as url:
        begun = time.monotonic()
        with closing(Cluster(Path(name), url, count)) as cluster:
            print(f"{count} replicas: made within {time.monotonic() - begun:.1f} s", flush=True)
            meter = Meter(connect(cluster.settings))
            found = idle(cluster, meter) | asked(cluster, meter) | pages(cluster, meter)
            found |= loaded(cluster, meter)
            sizes = memory(cluster)
            found["a replica ends"] = meter.median(lambda: cluster.end(cluster.replicas.pop()), 3)
        for what, cost in found.items():
            show(what, cost)
        print(f"  memory: {sizes}", flush=True)
        return {"costs": {what: asdict(cost) for what, cost in found.items()}, "memory": sizes}


def idle(cluster: Cluster, meter: Meter) -> Costs:
    """A second of all processes, while nobody asks anything."""
    cluster.second()
    cluster.two_seconds_of_agents()
    return {
        "replicas, a second": meter.median(cluster.second, 3),
        "agents, a second": meter.median(cluster.two_seconds_of_agents, 3).over(2),
        "keeper, a round": meter.median(cluster.keeper.round, 5),
    }


def asked(cluster: Cluster, meter: Meter) -> Costs:
    """A request on its way, in a process that has read nothing lately, and in one that has."""
    model, found = cluster.models[0], {}
    replica = next(one for one in cluster.replicas if one.spec.model == model)
    cluster.submit(model, background=True)
    replica.take()
    found["a token of a job"] = meter.median(replica.work, 5)

    def first() -> None:
        cluster.submit(model, background=True)

    costs, takes = [], []
    for _ in range(5):
        time.sleep(2 * RECENT_S)
        costs.append(meter.cost(first))
        takes.append(meter.cost(replica.take))
    found["submit, the first in half a second"] = middle(costs)
    time.sleep(2 * RECENT_S)
    first()
    replica.take()
    costs = []
    for _ in range(10):
        costs.append(meter.cost(first))
        takes.append(meter.cost(replica.take))
    found["submit, the next"] = middle(costs)
    found["ask, claim, begin"] = middle(takes)
    return found


def pages(cluster: Cluster, meter: Meter) -> Costs:
    """What operators and load balancers look at, in a process that has read nothing lately."""
    client = create_app(cluster.gateway).test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {cluster.secret}"
    found = {}
    for what, path in PAGES.items():
        body = PLAN if path == DEPLOY else None
        require(client.open(path, json=body, method="POST" if body else "GET"))
        costs = []
        for _ in range(3):
            time.sleep(2 * RECENT_S)
            costs.append(meter.cost(partial(client.open, path, json=body, method="POST" if body else "GET")))
        found[what] = middle(costs)
    return found


def require(answer: TestResponse) -> None:
    """Raises: RuntimeError if this is not the page."""
    if answer.status_code not in (200, 503):
        raise RuntimeError(f"{answer.request.path}: {answer.status} {answer.text:.300}")


def loaded(cluster: Cluster, meter: Meter) -> Costs:
    """The same seconds while each replica runs some jobs, and a process watches some more."""
    cluster.run_jobs(RUNNING)
    found = {
        "replicas with jobs, a second": meter.median(cluster.second, 3),
        "keeper with jobs, a round": meter.median(cluster.keeper.round, 3),
    }
    hub = cluster.gateway.hub
    hub.start()
    for one in cluster.replicas:
        for job in one.journaler.held[:WATCHED]:
            hub.watch(job.id)
    found["hub, a renewal of its leases"] = meter.median(hub._renew_leases, 3)
    return found


def memory(cluster: Cluster) -> dict[str, float]:
    """Bytes in Redis: of all that replicas and nodes have written, by kind of key."""
    sizes: dict[str, float] = {}
    for name in cluster.redis.scan_iter("hr:*", count=1000):
        kind = str(name).split(":")[1].partition("{")[0] or "jobs"
        sizes[kind] = sizes.get(kind, 0) + int(cluster.redis.memory_usage(name) or 0)
    return dict(sorted(sizes.items(), key=lambda pair: -pair[1]))


def middle(costs: list[Cost]) -> Cost:
    """Figure by figure the median."""
    return Cost(*(sorted(values)[len(values) // 2] for values in zip(*(cost.values for cost in costs), strict=True)))


def show(what: str, cost: Cost) -> None:
    """One line."""
    print(
        f"  {what:38} {cost.commands:9.0f} commands {cost.trips:7.0f} trips {cost.sent / 1e3:9.1f} kB in "
        f"{cost.received / 1e3:9.1f} kB out  Redis {cost.redis_ms:8.2f} ms  client {cost.client_ms:8.2f} ms",
        flush=True,
    )


if __name__ == "__main__":
    print(json.dumps(measure(tuple(int(size) for size in sys.argv[1:]) or SIZES)))
