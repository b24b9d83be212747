"""A simulated cluster over a real Redis: replicas, ten a model and ten a node, and the agents of the nodes.

All of them are objects in this process, which shares one connection pool among them; how many connections real
processes have is counted on a real one (`connections.py`).
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gateway.access.api_keys import Credentials
from gateway.cluster.desired import Desired, ReplicaSpec, replica_id
from gateway.context import Gateway
from gateway.inference.service import Submitted
from gateway.models.catalog import load_catalog
from gateway.models.catalog_store import Added, CatalogStore
from gateway.process.locks import hold_lock
from gateway.queue.celery_app import make_celery
from gateway.settings import Settings
from gateway.store.cached import RECENT_S
from tests.bench.scale.replica import SimulatedReplica
from workers.agent.reconciler import Agent
from workers.keeper.keeper import Keeper

#: Replicas of a model, and of a node.
PER_MODEL = PER_NODE = 10
DEVICE = "cpu0"
#: Models of the catalog: those with replicas, as many that nobody has loaded, and one whose files are on no machine.
HERE = {"engine": "fake", "capabilities": ["chat"], "name": "A model", "description": "One of many"}
ELSEWHERE = {"engine": "openvino", "capabilities": ["chat"], "source": "/nowhere"}
UNSERVED = "model-elsewhere"
#: Heartbeats are sent when the simulation wants it, so that none may expire meanwhile.
LEASE_S = 3_600.0


class Cluster:
    """So many replicas, with all that they have written, and a gateway and a keeper over them."""

    def __init__(self, folder: Path, redis_url: str, count: int) -> None:
        models = [f"model-{i:03}" for i in range(count // PER_MODEL)]
        self.settings = Settings(
            redis_url=redis_url,
            data_dir=folder,
            config=folder / "headrace.toml",
            node="n000",
            demo_model="",
            log_level="warning",
            lease_s=LEASE_S,
            load_on_demand=True,
        )
        self.models: Sequence[str] = models
        self.gateway = Gateway.connect(self.settings)
        self.redis, self.store, self.registry = self.gateway.redis, self.gateway.store, self.gateway.registry
        self._celery, self._catalog = make_celery(self.settings), self.gateway.catalog
        idle = [f"idle-{model}" for model in models]
        tables = dict.fromkeys([*models, *idle], HERE) | {UNSERVED: ELSEWHERE}
        for name, table in tables.items():
            CatalogStore(self.redis).add(name, Added(table))
        self._catalog.refresh()
        self.key, self.secret = Credentials(self.redis).create("bench", ("inference", "deploy", "admin"))
        self.keeper = Keeper(
            settings=self.settings,
            store=self.store,
            registry=self.registry,
            celery=self._celery,
            catalog=self._catalog,
        )
        self.keeper.installation.begin()
        self.agents = [self._agent(f"n{i:03}") for i in range(count // PER_NODE)]
        self.replicas = [self._replica(i) for i in range(count)]
        for agent in self.agents:
            agent._measure()
            agent._beat()
        for one in self.replicas[: len(models)]:
            self.submit(one.spec.model, max_tokens=1)
            one.take()
            one.work()

    def second(self) -> None:
        """What all replicas do in a second: a heartbeat, a question for jobs, half an audit."""
        for i, one in enumerate(self.replicas):
            one.beat(audits=i % 2 == 0)
            one.ask()

    def two_seconds_of_agents(self) -> None:
        """What all agents do in two: look at the catalog four times, reconcile five times, search and audit once, send
        two heartbeats.
        """
        for agent in self.agents:
            agent._next_search = 0.0
            for _ in range(5):
                agent.reconcile()
            for _ in range(4):
                agent.catalog._looked_at = float("-inf")
                agent._measure()
            journaler = agent.deployments._journaler
            for audits in (True, False):
                journaler._next_beat, journaler._next_audit = 0.0, 0.0 if audits else float("inf")
                journaler.tend(agent._beat)

    def submit(self, model: str, *, max_tokens: int = 1_000) -> Submitted:
        """A chat through the gateway. It is a background job, of which a replica takes as many as it has slots."""
        request = {"messages": [{"role": "user", "content": "x" * 400}], "max_tokens": max_tokens}
        return self.gateway.inference.submit("chat", model, request, key=self.key, background=True)

    def wait(self) -> None:
        """Until what processes have read is too old. The keeper has made a round meanwhile."""
        self.keeper._next_sets = 0.0
        self.keeper.round()
        time.sleep(1.1 * RECENT_S)

    def run_jobs(self, each: int) -> None:
        """Give each replica so many jobs that it holds, each with a token in its journal."""
        by_model = {model: [one for one in self.replicas if one.spec.model == model] for model in self.models}
        for model, replicas in by_model.items():
            for one in replicas * each:
                self.submit(model)
                one.take()
                one.work()

    def end(self, replica: SimulatedReplica) -> None:
        """A replica leaves: what its worker does last."""
        self.registry.deregister(replica.worker.incarnation)

    def close(self) -> None:
        """End what has threads."""
        self.gateway.hub.close()

    def _replica(self, number: int) -> SimulatedReplica:
        model, node = self.models[number % len(self.models)], f"n{number // PER_NODE:03}"
        name = replica_id(model, node, DEVICE, str(number))
        about: dict[str, Any] = {
            "deployment_id": "deploy-0123456789abcdef01234567",
            "max_batch_size": 32,
            "context_length": 4096,
        }
        spec = ReplicaSpec(name, model, node, DEVICE, **about)
        Desired(self.redis).put(spec)
        home = self._home(node)
        one = SimulatedReplica(home, self._catalog, spec, self.store, self.registry, self._celery)
        assert hold_lock(home.data_dir, name, one.worker.incarnation) is not None
        return one

    def _agent(self, node: str) -> Agent:
        home = self._home(node)
        catalog = load_catalog(home, self.redis)
        return Agent(home, self.redis, self._celery, catalog, f"agent.{node}.{DEVICE}:{secrets.token_hex(4)}")

    def _home(self, node: str) -> Settings:
        """The settings of a node, with a data folder of its own."""
        return replace(self.settings, node=node, device=DEVICE, data_dir=self.settings.data_dir / node)
