"""Whether this gateway can take requests: not only that its process is up, but that what it needs is available.

Not whether a model is there: a deployment, and a request that wakes a model, must come through before.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.cluster.desired import SpecState
from gateway.cluster.registry import Health
from gateway.context import Gateway
from gateway.errors import MAX_FLAWS
from gateway.inference.routing import BY_CIRCUIT, ModelStatus
from gateway.store.connection import NOT_NOW


@dataclass(frozen=True)
class Readiness:
    """The state of each component, in the document's words."""

    #: `lost`: Redis answers, but its data is gone. `evicting`: by its settings it may drop jobs.
    redis: str = "unhealthy"
    #: What Redis does for the durability of jobs, for people.
    durability: str = ""
    keeper: str = "unknown"
    #: Duration of the keeper's last round, and whether it recovers lost jobs: not at once after an outage of Redis.
    keeper_round_s: float = 0.0
    keeper_trusted: bool = False
    #: Replica id to its health, or `asleep`: the next request wakes it.
    replicas: dict[str, str] = field(default_factory=dict)
    #: Providers of remote models whose key a living worker has, with the state of their circuit.
    providers: dict[str, str] = field(default_factory=dict)
    #: `stale` while the catalog has mistakes; and where they are, but not what: this is for everybody.
    catalog: str = "healthy"
    catalog_problems: list[str] = field(default_factory=list)

    @property
    def ready(self) -> bool:
        """Redis answers, and a keeper holds its lease."""
        return self.redis == self.keeper == "healthy"


def check(gateway: Gateway) -> Readiness:
    """Check Redis, the keeper, the replicas and the providers."""
    problems = [problem.where for problem in gateway.catalog.problems][:MAX_FLAWS]
    catalog = "stale" if problems else "healthy"
    try:
        keeper = gateway.registry.keeper()
        return Readiness(
            redis="lost" if gateway.installation.check() else "evicting" if keeper and keeper.evicts else "healthy",
            durability=keeper.durability if keeper else "",
            keeper="healthy" if keeper else "unhealthy",
            keeper_round_s=keeper.round_s if keeper else 0.0,
            keeper_trusted=keeper.trusted if keeper else False,
            replicas=_replicas(gateway),
            providers=_providers(gateway),
            catalog=catalog,
            catalog_problems=problems,
        )
    except NOT_NOW:
        return Readiness(catalog=catalog, catalog_problems=problems)


def _replicas(gateway: Gateway) -> dict[str, str]:
    """The living and the sleeping replicas."""
    replicas, specs = gateway.inference.router.everything()
    asleep = {one.replica_id: "asleep" for one in specs if one.state == SpecState.ASLEEP}
    return asleep | {replica.replica_id: replica.health for replica in replicas}


def _providers(gateway: Gateway) -> dict[str, str]:
    """The state of each provider that a living worker has a key for."""
    used = {model.provider for model in gateway.catalog if not model.local}
    served = {name for worker in gateway.registry.providers() for name in worker.credentials} & used
    statuses = {name: BY_CIRCUIT[gateway.inference.router.breaker.state(name).state] for name in sorted(served)}
    return {name: Health.HEALTHY if status is ModelStatus.ACTIVE else status for name, status in statuses.items()}
