"""A model worker of the sequences: the real ReplicaWorker without its threads, over the fake engine in this process."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Callable, Sequence
from typing import Any

from gateway.cluster.desired import ReplicaSpec
from gateway.cluster.registry import Registry
from gateway.jobs.record import Cause
from gateway.jobs.store import JobStore
from gateway.queue.names import lists, queue_of, wake_queue
from gateway.store.connection import NOT_NOW
from tests.interleavings.processes import MODELS, Never, Process, Surroundings
from workers.engines.base import EngineConfig, SequenceOutput, SequenceRequest
from workers.engines.fake import FakeEngine
from workers.handlers.base import EngineRun
from workers.handlers.generation import Generation
from workers.journal.writer import Journaler
from workers.replica.admission import Admission
from workers.replica.engine_client import EngineDied, StepFrame
from workers.replica.engine_supervisor import EngineSupervisor
from workers.replica.slots import Ticket
from workers.replica.worker import ReplicaWorker
from workers.tokenizers.load import FakeTokenizer

#: The names of the model workers.
WORKERS = ("worker0", "worker1")
#: Few, so that jobs wait, and take them from each other.
SLOTS = 3


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


class StillEngine(EngineSupervisor):
    """Starts an engine in this process, which needs no time for it."""

    def _restart(self) -> None:
        self._process = Engine(self._config)
        self.info = self._process.info
        self.step_times = 0.01, 0.01  # each sequence costs others time, so that who gives way keeps back
        self.ready.set()


class AtOnce:
    """Takes the place of the threads that prepare jobs: each is prepared before the next."""

    def submit(self, prepare: Callable[..., None], *args: Any) -> None:
        """What it raises is nobody's, as in a thread."""
        with contextlib.suppress(NOT_NOW):
            prepare(*args)


class CrowdedAdmission(Admission):
    """Lets suspects into the batch, too."""

    def _begin_alone(self, job_id: str, ticket: Ticket[EngineRun]) -> EngineRun | None:
        """The others need not leave the engine: it dies only when it is told to, and steps only then."""
        run = self._claim(job_id, ticket)
        if run is not None:
            self.submit(run)
        return run


class StillReplica(ReplicaWorker):
    """A replica without threads, whose engine steps when it is told to. It serves all models."""

    def __init__(self, incarnation: str, name: str, around: Surroundings, store: JobStore) -> None:
        config = EngineConfig("fake", "", "cpu0", SLOTS, 1_000_000)
        self._works = {
            model: Generation(
                FakeTokenizer(), around.catalog.get(model), around.catalog, context_length=config.context_length
            )
            for model in MODELS
        }
        super().__init__(
            settings=around.settings,
            model=around.catalog.get(MODELS[0]),
            spec=replica(MODELS[0], name),
            incarnation=incarnation,
            config=config,
            work=self._works[MODELS[0]],
            store=store,
            registry=Registry(store.redis),
            celery=around.celery,
        )
        self._catalog = around.catalog
        self._admission.__class__, self.engine.__class__ = CrowdedAdmission, StillEngine
        self._puller._woken, self._puller._preparers = Never(), AtOnce()  # type: ignore[assignment]
        self.engine._restart()
        self.heartbeat.update(status="active")

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
            self.engine.note_step()
            self._on_step(self.engine._process.step())

    def pull(self, hint: tuple[str, str] | None) -> bool:
        """A step of its puller for each model; `hint`: a model, and a job that it is to take, or ''.

        Returns whether it has asked.
        """
        for model in MODELS:
            self._admission.model, self._admission.work = self._catalog.get(model), self._works[model]
            self._puller._model = model
            if hint and hint[0] == model:
                self.generate(hint[1])
            self._puller._step()
        return self.engine.ready.is_set()

    def slots_held(self) -> dict[EngineRun | None, int]:
        """Who holds slots, and how many."""
        return {ticket.owner: ticket.slots for ticket in self._slots._held}

    def engine_dies(self, *, killed: bool) -> None:
        """The engine dies, and is started again."""
        engine = self.engine._process
        engine.dead, engine.was_killed = True, killed
        self.engine._mourn(engine, "told to")
        self.engine.ready.wait(5)

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


class ReplicaProcess(Process):
    """A model worker."""

    def __init__(self, name: str, incarnation: str, around: Surroundings) -> None:
        super().__init__(name, around.store(name))
        self.incarnation = incarnation
        self.replica = StillReplica(incarnation, name, around, self.store)
        self.journaler = self.replica.journaler

    def remembers(self) -> set[str]:
        """Jobs that it would bring back if Redis had lost them."""
        return {run.id for run in self.journaler.held} | {run.id for run in self.journaler.audit.ended}

    def next_hint(self) -> tuple[str, str] | None:
        """Take a model, and a job or '', from the queues, the most urgent first."""
        models = {name: model for model in MODELS for name in lists(queue_of(model))}
        names = [*lists(self.replica.queue), *models]
        taken = self.store.redis.lmpop(len(names), *names, direction="RIGHT")
        if taken is None:
            return None
        name, (message,) = taken
        return models.get(name, MODELS[0]), hinted_job(message)


def replica(model: str, name: str) -> ReplicaSpec:
    """A replica that is wanted."""
    return ReplicaSpec(f"{name}-{model}", model, "test", "cpu0")


def wake_queues() -> list[str]:
    """Where replicas are told that there is work."""
    return [queue for name in WORKERS for queue in lists(wake_queue(replica(MODELS[0], name).replica_id))]


def hinted_job(message: str) -> str:
    """The job id in a message of kombu, or ''."""
    args, _, _ = json.loads(base64.b64decode(json.loads(message)["body"]))
    return str(args[0]) if args else ""
