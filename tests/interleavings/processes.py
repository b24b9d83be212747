"""A worker, a keeper and a web process around the real Journaler, Keeper, Inference and Hub, without their loops.

Each method is one step of one of their loops or threads; what drives them decides when.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import redis
from celery import Celery

from gateway.cluster.registry import Registry
from gateway.cluster.trust import Trust
from gateway.inference.breaker import Breaker
from gateway.inference.routing import Router
from gateway.inference.service import Inference
from gateway.jobs.store import JobStore
from gateway.models.catalog import Catalog
from gateway.queue import transport as broker
from gateway.queue.celery_app import make_celery
from gateway.settings import Settings
from gateway.store.connection import connect
from gateway.watching import hub as watch
from gateway.watching.hub import Hub
from tests.interleavings.wire import WiredConnection
from workers.keeper.keeper import Keeper

#: Models that all workers run.
MODELS = ("fake", "other")


@dataclass
class Surroundings:
    """What all processes are given."""

    settings: Settings
    catalog: Catalog
    #: Sends hints over the same wire as all else.
    celery: Celery = field(init=False)
    #: By the name of a process: its way to Redis, which its successors take over.
    stores: dict[str, JobStore] = field(default_factory=dict)

    def connect_queues(self) -> None:
        """Begin without any connection to the queues."""
        self.celery = make_celery(self.settings)
        with self.celery.producer_or_acquire() as producer:
            producer.channel.client.ping()

    def store(self, name: str, *, retries: int = 0) -> JobStore:
        """The store of a process."""
        if name not in self.stores:
            client = connect(self.settings, retries=retries, max_connections=16)
            client.connection_pool.connection_class = WiredConnection
            self.stores[name] = JobStore(client)
        return self.stores[name]


class WiredChannel(broker.Channel):
    """A way to the queues over the same wire."""

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        return {**super()._connparams(asynchronous), "connection_class": WiredConnection}


class Process:
    """Something that can be stopped, and killed."""

    def __init__(self, name: str, store: JobStore) -> None:
        self.name = name
        self.store = store
        self.frozen = self.dead = False
        #: Its threads that are in the middle of something.
        self.busy: set[str] = set()


class KeeperProcess(Process):
    """A keeper."""

    def __init__(self, name: str, around: Surroundings, clock: Callable[[], float]) -> None:
        super().__init__(name, around.store(name))
        self.keeper = Keeper(
            settings=around.settings,
            store=self.store,
            registry=Registry(self.store.redis),
            celery=around.celery,
            catalog=around.catalog,
            trust=Trust(clock),
        )

    def round(self) -> bool:
        """One step of its loop. Returns True: it came to its end."""
        self.keeper._step()
        return True


class Never(threading.Event):
    """Nobody waits for it."""

    def wait(self, timeout: float | None = None) -> bool:
        """At once."""
        return self.is_set()


class StillHub(Hub):
    """A hub without threads: publications are brought by hand, and its loops take a step when they are told to."""

    def __init__(self, client: redis.Redis, store: JobStore, *, grace_s: float) -> None:
        super().__init__(client, store, grace_s=grace_s)
        self._closed = Never()

    def start(self) -> None:
        """Nothing."""

    def deliver(self, message: str) -> None:
        """A publication arrives."""
        self._deliver(message.encode())

    def lose(self) -> None:
        """Its connection has broken."""
        self._lost_at = watch.time.monotonic()

    def subscribe(self) -> None:
        """Its connection is there again."""
        self._on_subscribed()

    def attend(self) -> None:
        """A step of a loop."""
        self._renew_leases()

    def tick(self) -> None:
        """A step of the other one."""
        self._tick()


class WebProcess(Process):
    """A web process, and the publications that are on their way to it."""

    def __init__(self, name: str, around: Surroundings) -> None:
        super().__init__(name, around.store(name, retries=3))
        registry = Registry(self.store.redis)
        self.hub = StillHub(self.store.redis, self.store, grace_s=around.settings.grace_s)
        self.inference = Inference(
            settings=around.settings,
            store=self.store,
            router=Router(
                registry=registry, catalog=around.catalog, breaker=Breaker(self.store.scripts, around.settings)
            ),
            catalog=around.catalog,
            celery=around.celery,
            hub=self.hub,
        )
        self.mail: deque[str] = deque()
        #: It does not hear what is published.
        self.deaf = False
