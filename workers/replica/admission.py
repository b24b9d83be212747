"""Admits jobs to the batch: each is claimed, prepared, and passed to the engine. Its slots are held by then.

A quarantined job runs alone. Knows no Celery thread, no step of the engine and no heartbeat.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from gateway.access.limits import Limits
from gateway.cluster.desired import ReplicaSpec
from gateway.cluster.registry import Registry
from gateway.jobs.record import Cause, Job, JobHead
from gateway.jobs.resume_point import ResumePoint
from gateway.models.catalog import Model
from workers.engines.base import EngineInfo, SequenceRequest
from workers.handlers.base import EngineRun, Work
from workers.journal.claim_loop import ClaimLoop
from workers.journal.quarantine import QUARANTINE_CRASHES, PoisonRule, Turnstile
from workers.journal.writer import Journaler
from workers.replica.engine_client import EngineDied
from workers.replica.engine_supervisor import EngineSupervisor
from workers.replica.equals import EqualWeights
from workers.replica.sequences import Sequences
from workers.replica.slots import Ticket

log = logging.getLogger(__name__)

#: A quarantined job runs alone for this many tokens.
PROBATION_TOKENS = 8


class Admission:
    """Takes jobs for one replica of one model. Any thread may call it; `on_turn` hears when a suspect may be taken."""

    def __init__(
        self,
        model: Model,
        spec: ReplicaSpec,
        work: Work,
        *,
        journaler: Journaler,
        registry: Registry,
        engine: EngineSupervisor,
        sequences: Sequences,
        on_turn: Callable[[str], None],
    ) -> None:
        self.model = model
        self.work = work
        self._spec = spec
        self._journaler = journaler
        self._engine = engine
        self._sequences = sequences
        self._store = store = journaler.store
        rule = PoisonRule("The engine, or the worker around it,", journaler.settings.max_attempts, "engine_crashed")
        self._claims = ClaimLoop(journaler, rule)
        self._limits = Limits(store.redis, store.scripts)
        self._equals = EqualWeights(store=store, registry=registry, celery=journaler.celery)
        self._quarantine = Turnstile(1, on_turn)
        #: Held to add a job to the batch; a quarantined job keeps it while it is alone there.
        self._adding = threading.Lock()

    @property
    def takes_quarantined(self) -> bool:
        """Whether a job that may kill the engine would have its turn now."""
        return self._quarantine.is_free

    def take(self, job_id: str, ticket: Ticket[EngineRun]) -> EngineRun | None:
        """Claim a job and pass it to the engine; it owns its slots, `ticket`, from then on.

        Returns None if it is taken, ended or gone, if it was left to others, or has ended already. Raises: NOT_NOW.
        """
        return self._claims.take(job_id, lambda waiting: self._admit(waiting, ticket))

    def take_new(self, tickets: Mapping[str, Ticket[EngineRun]]) -> list[EngineRun]:
        """The same for jobs that were offered to this replica and have never begun: they are claimed in one round trip,
        prepared one behind the other, and passed to the engine together. Returns those that run. Raises: NOT_NOW.
        """

        def prepare(job: Job) -> EngineRun:
            return self._prepare(job, tickets[job.id])

        runs = self._claims.take_new(list(tickets), prepare, model=self.model.id)
        return self._add(*runs)

    def submit(self, *runs: EngineRun) -> None:
        """Add the remaining sequences of runs to the batch, in one frame. Those that are over have none."""
        requests: dict[EngineRun, Sequence[SequenceRequest]] = {}
        for run in runs:
            with self._journaler.bulkhead(run):
                requests[run] = self._sequences.add(run)
        try:
            self._send(requests)
        except EngineDied:
            self._journaler.release(requests, Cause.GIVEN_BACK)
        except Exception:  # one of them can't be written, and ends alone
            log.exception("%d jobs were not passed to the engine together", len(requests))
            for run, own in requests.items():
                with self._journaler.bulkhead(run):
                    self._send({run: own})

    def _send(self, requests: Mapping[EngineRun, Sequence[SequenceRequest]]) -> None:
        """Raises: EngineDied, and what is raised of one that can't be written."""
        if together := [request for own in requests.values() for request in own]:
            self._engine.submit(together)

    def _add(self, *runs: EngineRun) -> list[EngineRun]:
        """Add jobs that were claimed to the batch, but for those that have crashed another engine meanwhile."""
        suspects = [run for run in runs if run.job.crashes >= QUARANTINE_CRASHES]
        if suspects:
            self._journaler.release(suspects, Cause.GIVEN_BACK)
        fine = [run for run in runs if run not in suspects]
        with self._adding:
            self.submit(*fine)
        return fine

    def _admit(self, waiting: JobHead, ticket: Ticket[EngineRun]) -> EngineRun | None:
        if self._equals.leave(waiting, self._engine.weights):
            return None
        ticket.grow(waiting.slots)  # a job that this replica was told to take
        begin = self._begin_alone if waiting.crashes >= QUARANTINE_CRASHES else self._begin
        return begin(waiting.id, ticket)

    def _begin(self, job_id: str, ticket: Ticket[EngineRun]) -> EngineRun | None:
        run = self._claim(job_id, ticket)
        return next(iter(self._add(run)), None) if run else None

    def _begin_alone(self, job_id: str, ticket: Ticket[EngineRun]) -> EngineRun | None:
        """The same for a quarantined job: the other jobs leave the batch until it has made a few tokens.

        They continue from where they were, so they lose only that time. Until it is its turn, it stays in the queue,
        and no thread waits for it.
        """
        with self._quarantine.turn(job_id) as is_its_turn:
            run = self._claim(job_id, ticket) if is_its_turn else None
            if run is None:
                return None
            with self._adding:
                others = self._sequences.runs()
                self._engine.cancel(self._sequences.remove_all())
                self.submit(run)
                while run.new_tokens < PROBATION_TOKENS and run.state is None and not run.finished.wait(0.01):
                    continue
                self.submit(*others)
        return run

    def _claim(self, job_id: str, ticket: Ticket[EngineRun]) -> EngineRun | None:
        return self._claims.claim(job_id, partial(self._prepare, ticket=ticket), model=self.model.id)

    def _prepare(self, job: Job, ticket: Ticket[EngineRun]) -> EngineRun:
        """Tokenize, and replay the journal. Raises: HeadraceError if the job can't run."""
        begun = ResumePoint.from_journal(job, self._store.journals.read(job.id)) if job.seq else None
        run = self.work.prepare(job, begun)
        engine = self._engine.info
        assert engine is not None  # it takes no job before it is loaded
        run.require_exact(self.model, engine)
        self._limits.correct(job.key_id, job.id, reserved=job.reserved, tokens=run.reserved_tokens)
        run.yields = job.background or ticket.yields
        ticket.owner = run
        run.begin(self._about(engine))
        return run

    def _about(self, engine: EngineInfo) -> dict[str, Any]:
        """Fields of the first event of a claim that say which worker runs the job."""
        return {
            "model": self.model.id,
            "tokenizer": self.work.digest,
            "engine": engine.name,
            "weights": engine.weights_digest,
            "replica": self._spec.replica_id,
        }
