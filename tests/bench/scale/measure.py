"""Measures a simulated cluster of each size: what its parts cost in a second, and what a request and a page cost."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from werkzeug.test import TestResponse

from gateway.jobs.compaction import compact_ended
from gateway.jobs.record import JobState
from gateway.store import keys
from gateway.store.connection import connect
from gateway.store.embedded import server_command
from tests.bench.scale.cluster import UNSERVED, Cluster
from tests.bench.scale.cost import Cost, Meter, middle
from tests.stack import eventually
from web.app import create_app

SIZES = (10, 100, 1000)
#: Jobs that each replica runs while the loaded cluster is measured, and those of them that one process watches.
RUNNING, WATCHED = 4, 2
#: Tokens of a job whose memory is measured.
TOKENS = 128
DEPLOY = "/models/local/deploy"
PLAN = {"model_type": "model-000", "replicas": 2, "dry_run": True}
PAGES = {
    "GET /models": "/models",
    "GET /models/{id}": "/models/model-000",
    "GET /models/local": "/models/local",
    "GET /health/ready": "/health/ready",
    "GET /models/{id}, of one that nobody has loaded": "/models/idle-model-000",
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


@contextmanager
def measurement(count: int, times: int = 3) -> Iterator[Measurement]:
    """One of a cluster of so many replicas, over a Redis of its own."""
    with (
        tempfile.TemporaryDirectory(prefix="hr-") as name,
        redis_server(Path(name)) as url,
        closing(Cluster(Path(name), url, count)) as cluster,
    ):
        yield Measurement(cluster, times)


def measure(sizes: Sequence[int] = SIZES) -> dict[str, Any]:
    """The costs of each size, by what costs them; and the bytes in Redis, by kind of key."""
    found = {}
    for size in sizes:
        with measurement(size) as one:
            print(f"{size} replicas", flush=True)
            costs = one.costs()
            for what, cost in costs.items():
                show(what, cost)
            found[str(size)] = {
                "costs": {what: asdict(cost) for what, cost in costs.items()},
                "memory": one.memory(),
                "job_bytes": one.job_bytes(),
            }
    return found


class Measurement:
    """What a cluster costs: each figure is the median of several `times`."""

    def __init__(self, cluster: Cluster, times: int) -> None:
        self.cluster = cluster
        self._times = times
        self._meter = Meter(connect(cluster.settings))

    def costs(self) -> Costs:
        """Of everything, while nobody asks anything and then with jobs."""
        return self.idle() | self.asked() | self.pages() | self.loaded() | self.ends()

    def idle(self) -> Costs:
        """A second of all processes, while nobody asks anything."""
        cluster = self.cluster
        cluster.second()
        cluster.two_seconds_of_agents()
        return {
            "replicas, a second": self._meter.median(cluster.second, self._times),
            "agents, a second": self._meter.median(cluster.two_seconds_of_agents, self._times).over(2),
            "keeper, a round": self._meter.median(cluster.keeper.round, self._times),
        }

    def asked(self) -> Costs:
        """A request on its way, in a process that has read nothing lately, and in one that has."""
        cluster, model = self.cluster, self.cluster.models[0]
        replica = next(one for one in cluster.replicas if one.spec.model == model)
        submit = partial(cluster.submit, model)
        submit()
        replica.take()
        found = {"a token of a job": self._meter.median(replica.work, self._times)}
        firsts, nexts, takes = [], [], []
        for _ in range(self._times):
            cluster.wait()
            firsts.append(self._meter.cost(submit))
            nexts.append(self._meter.cost(submit))
            takes.append(self._meter.cost(replica.take))
        found["submit, the first in half a second"] = middle(firsts)
        found["submit, the next"] = middle(nexts)
        found["ask, claim, begin two"] = middle(takes)
        return found

    def pages(self) -> Costs:
        """What operators and load balancers look at, in a process that has read nothing lately."""
        client = create_app(self.cluster.gateway).test_client()
        client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {self.cluster.secret}"
        found = {}
        for what, path in PAGES.items():
            get = partial(client.get, path) if path != DEPLOY else partial(client.post, path, json=PLAN)
            require(get())
            found[what] = self._later(get)
        return found

    def loaded(self) -> Costs:
        """The same seconds while each replica runs some jobs, and a process watches some of them."""
        self.cluster.run_jobs(RUNNING)
        hub = self.cluster.gateway.hub
        for one in self.cluster.replicas:
            for job in one.journaler.held[:WATCHED]:
                hub.watch(job.id)
        return {
            "replicas with jobs, a second": self._meter.median(self.cluster.second, self._times),
            "keeper with jobs, a round": self._meter.median(self.cluster.keeper.round, self._times),
            "hub, a renewal of its leases": self._meter.median(hub._renew_leases, self._times),
        }

    def ends(self) -> Costs:
        """A replica leaves."""
        return {
            "a replica ends": self._meter.median(lambda: self.cluster.end(self.cluster.replicas.pop()), self._times)
        }

    def memory(self) -> dict[str, float]:
        """Bytes in Redis, by kind of key: `worker`, `desired`; `jobs` are records and journals."""
        sizes: dict[str, float] = {}
        for name in self.cluster.redis.scan_iter("hr:*", count=1000):
            kind = str(name).split(":")[1].partition("{")[0] or "jobs"
            sizes[kind] = sizes.get(kind, 0) + self._bytes(str(name))
        return sizes

    def job_bytes(self) -> dict[str, float]:
        """Bytes of a job that runs, with its part of the indexes; of one with `TOKENS` that has just ended; and of that
        when its journal is compacted.
        """
        cluster, store = self.cluster, self.cluster.store
        running = [str(job_id) for job_id in cluster.redis.zrange(keys.RUNNING, 0, -1)]
        indexes = (
            keys.RUNNING,
            keys.owned(cluster.key.id),
            keys.open_jobs(cluster.key.id),
            keys.stored(cluster.key.id),
        )
        share = sum(map(self._bytes, indexes)) / len(running)
        opened = share + sum(map(self._job_bytes, running)) / len(running)
        one = cluster.replicas[0]
        job = cluster.submit(one.spec.model, max_tokens=TOKENS).job
        one.take()
        while (head := store.head(job.id)) and head.state is JobState.RUNNING:
            one.work()
        ended = self._job_bytes(job.id)
        compact_ended(store, one.spec.model, before_ms=store.clock.now_ms() + 1)
        return {"open": opened, "ended": ended, "compacted": self._job_bytes(job.id)}

    def _job_bytes(self, job_id: str) -> int:
        return sum(map(self._bytes, keys.of_job(job_id)))

    def _bytes(self, name: str) -> int:
        return int(self.cluster.redis.memory_usage(name, samples=0) or 0)

    def _later(self, act: Callable[[], object]) -> Cost:
        """What that costs where nothing was read lately."""
        costs = []
        for _ in range(self._times):
            self.cluster.wait()
            costs.append(self._meter.cost(act))
        return middle(costs)


def require(answer: TestResponse) -> None:
    """Raises: RuntimeError if this is not the page."""
    if answer.status_code not in (200, 503):
        raise RuntimeError(f"{answer.request.path}: {answer.status} {answer.text:.300}")


def show(what: str, cost: Cost) -> None:
    """One line."""
    print(
        f"  {what:40} {cost.commands:9.0f} commands {cost.trips:7.0f} trips {cost.sent / 1e3:9.1f} kB in "
        f"{cost.received / 1e3:9.1f} kB out  Redis {cost.redis_ms:8.2f} ms  client {cost.client_ms:8.2f} ms",
        flush=True,
    )


if __name__ == "__main__":
    print(json.dumps(measure([int(size) for size in sys.argv[1:]] or SIZES)))
