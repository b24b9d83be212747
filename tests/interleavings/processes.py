"""A worker, a keeper and a web process around the real Journaler, Keeper, Inference and Hub, without their loops.

Each method is one step of one of their loops or threads; what drives them decides when.
"""

from __future__ import annotations

import base64
import json
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import redis
from celery import Celery

from gateway import broker, watch
from gateway.breaker import Breaker
from gateway.catalog import Catalog
from gateway.desired import Wanted
from gateway.inference import Inference
from gateway.job import Cause, Event, EventType, JobState
from gateway.jobs import JobStore
from gateway.queues import lists, make_celery, queue_of
from gateway.redis import connect
from gateway.registry import Registry
from gateway.routing import Router
from gateway.settings import Settings
from gateway.watch import Hub
from gateway.watcher import Watcher
from tests.interleavings.wire import WiredConnection
from workers.engine_client import EngineDied, StepFrame
from workers.engines.base import EngineConfig, SequenceOutput, SequenceRequest
from workers.engines.fake import FakeEngine
from workers.generation import Generation
from workers.journaler import Journaler
from workers.keeper import Keeper
from workers.replica import ReplicaWorker
from workers.tokenizer import FakeTokenizer
from workers.trust import Trust

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


class Engine:
    """The fake engine in this process, with what ReplicaWorker asks of an EngineProcess."""

    pid = 1
    was_killed = False

    def __init__(self, config: EngineConfig) -> None:
        self._engine = FakeEngine(config)
        self.dead = False
        self.info = self._engine.info

    def submit(self, requests: Sequence[SequenceRequest]) -> None:
        """Add sequences."""
        if self.dead:
            raise EngineDied("it is dead")
        for request in requests:
            self._engine.add(request)

    def cancel(self, sequence_ids: Sequence[int]) -> None:
        """Take sequences out."""
        for sequence_id in sequence_ids:
            self._engine.cancel(sequence_id)

    def step(self) -> StepFrame:
        """One token for each sequence."""
        return StepFrame(self._engine.step(), 1, self._engine.num_sequences())

    def kill(self) -> None:
        """It goes with its worker."""


class StillReplica(ReplicaWorker):
    """A replica without threads, whose engine steps when it is told to. It serves all models."""

    def __init__(self, incarnation: str, name: str, around: Surroundings, store: JobStore) -> None:
        config = EngineConfig("fake", "", "cpu0", 64, 1_000_000)
        self._works = {
            model: Generation(FakeTokenizer(), around.catalog.get(model), around.catalog) for model in MODELS
        }
        super().__init__(
            settings=around.settings,
            model=around.catalog.get(MODELS[0]),
            wanted=replica(MODELS[0]),
            incarnation=incarnation,
            config=config,
            work=self._works[MODELS[0]],
            store=store,
            registry=Registry(store.redis),
            celery=around.celery,
        )
        self._catalog = around.catalog
        self._restart_engine()
        self.note(status="active")

    @property
    def journaler(self) -> Journaler:
        """Its table."""
        return self._journaler

    def tend(self) -> None:
        """A step of the emitter, without the engine's."""
        self._journaler.tend(self._beat)

    def step(self, tokens: int) -> None:
        """The engine makes some tokens for each of its sequences."""
        for _ in range(tokens):
            self._on_step(self._engine.step())

    def claim(self, model: str, job_id: str) -> None:
        """What a thread of Celery does with a hint, up to where it waits for the end."""
        if not self.ready.is_set():
            return
        self.model, self.work = self._catalog.get(model), self._works[model]
        with self._journaler.claiming(job_id) as mine:
            waiting = self.store.read(job_id) if mine else None
            if waiting is not None and waiting.state is JobState.QUEUED:
                self._begin(job_id)

    def engine_dies(self, *, killed: bool) -> None:
        """The engine dies, and is started again."""
        engine = self._engine
        engine.dead, engine.was_killed = True, killed
        self._on_engine_death(engine, "told to")

    def refuse(self) -> None:
        """The engine refuses what it runs."""
        for run in self._journaler.held:
            run.take(0, SequenceOutput(0, [], None, "error", "refused by the engine"))
            self._journaler.touch(run)

    def drain(self) -> None:
        """Give all back, as at the end of a process that may end in peace."""
        self._journaler.release(self._journaler.held, Cause.GIVEN_BACK)

    def hand_over(self, job_id: str) -> None:
        """The model has failed, and another goes on."""
        for run in self._journaler.held:
            if run.id == job_id and run.state is None:
                model = run.job.runs_on
                following = MODELS[1 - MODELS.index(model)]
                run.hand_over(following, {"model": model, "reason": "upstream_error", "mode": "continue"})
                self._journaler.touch(run)

    def _restart_engine(self) -> None:
        self._engine = Engine(self.config)
        self._info = self._engine.info
        self.ready.set()


class ReplicaProcess(Process):
    """A model worker."""

    def __init__(self, name: str, incarnation: str, around: Surroundings) -> None:
        super().__init__(name, around.store(name))
        self.incarnation = incarnation
        self.replica = StillReplica(incarnation, name, around, self.store)
        self.journaler = self.replica.journaler

    def remembers(self) -> set[str]:
        """Jobs that it would bring back if Redis had lost them."""
        return {run.id for run in self.journaler.held} | {run.id for _, run in self.journaler._ended}

    def next_hint(self) -> tuple[str, str] | None:
        """Take a model and a job from the queues, the most urgent first."""
        for model in MODELS:
            for name in lists(queue_of(model)):
                if (message := self.store.redis.rpop(name)) is not None:
                    return model, hinted_job(str(message))
        return None


def replica(model: str) -> Wanted:
    """A replica that is wanted."""
    return Wanted(f"r-{model}", model, "test", "cpu0")


def hinted_job(message: str) -> str:
    """The job id in a message of kombu."""
    (job_id,), _, _ = json.loads(base64.b64decode(json.loads(message)["body"]))
    return str(job_id)


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

    def round(self) -> None:
        """One step of its loop."""
        self.keeper._step()


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
        self._attend()

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


class Client:
    """What one client has seen of one job, as it would show it."""

    def __init__(self, job_id: str, watcher: Watcher) -> None:
        self.job_id = job_id
        self.watcher = watcher
        #: By choice.
        self.text: dict[int, str] = {}
        #: Entries that its text is made of, since it was told what stands.
        self.kept: list[Event] = []
        self.end: EventType | None = None
        self.expired = False

    def read(self) -> None:
        """Take what is there, as an event loop does."""
        if self.watcher.ended:
            return
        if self.watcher.lagging:
            for events in self.watcher.catch_up():
                self._see(events)
        while (events := self.watcher.take()) is not None:
            self._see(events)

    def _see(self, events: list[Event]) -> None:
        for event in events:
            assert self.end is None, f"{self.job_id}: {event} came behind the end"
            if event.type is EventType.REWOUND:
                self.text = {int(index): text for index, text in event.body["text"].items()}
                self.kept = []
                continue
            if event.type is EventType.EXPIRED:
                self.expired = True
                continue
            self.kept.append(event)
            deltas = event.body["choices"] if event.type is EventType.SNAPSHOT else [event.body]
            for delta in deltas:
                index = delta.get("index", 0)
                self.text[index] = self.text.get(index, "") + delta.get("text", "")
            if event.type.terminal:
                self.end = event.type
