"""The contract of a job handler on a replica: how a job becomes sequences, and outputs become events.

Everything else is the same for all kinds, and in `workers/replica/`: claims, slots, the engine, the journal.
"""

from __future__ import annotations

import importlib
from typing import Protocol, cast

from gateway.jobs.record import Job
from gateway.jobs.resume_point import ResumePoint
from gateway.models.catalog import Catalog, Model
from gateway.models.engines import spec_of
from workers.engines.base import EngineConfig, EngineInfo, SequenceOutput, SequenceRequest
from workers.journal.claimed_job import ClaimedJob

#: Finish reasons that fail the whole job, and the reason of its error.
ENGINE_ERRORS = {"error": "invalid_request", "failed": "generation_failed"}


class EngineRun(ClaimedJob):
    """A claimed job with sequences in an engine. Once they are there, only the emitter thread changes it."""

    #: Tokens made under this claim.
    new_tokens = 0
    #: What is reserved for the job of its key's minute, with its counted prompt.
    reserved_tokens = 0
    #: Its sequences give way to those of others, see `SequenceRequest`.
    yields = False

    def require_exact(self, model: Model, engine: EngineInfo) -> None:
        """Raises: HeadraceError if it must go on exactly, and would not on this engine."""

    def requests(self, first_sequence_id: int) -> list[SequenceRequest]:
        """The requests for all unfinished sequences: sequence `i` of the job has the id `first_sequence_id + i`."""
        raise NotImplementedError

    def take(self, index: int, output: SequenceOutput) -> bool:
        """Add an output of one sequence. Returns whether the sequence must be stopped."""
        raise NotImplementedError


class Work(Protocol):
    """A handler of one kind of job, for one model."""

    #: The digest of the tokenizer; a resume needs the same one.
    digest: str

    def prepare(self, job: Job, resume_point: ResumePoint | None) -> EngineRun:
        """Tokenize, and replay the journal. Raises: HeadraceError if the job can't run."""

    def check(self) -> list[str]:
        """Try parts that only requests use. Returns warnings. Raises: DeploymentFailed if no request could work."""

    def probe(self) -> SequenceRequest:
        """The smallest possible request, as sequence 0."""


def load_work(config: EngineConfig, model: Model, catalog: Catalog) -> Work:
    """The handler for replicas with this engine."""
    module, _, name = spec_of(config.engine).job_handler.partition(":")
    return cast(Work, getattr(importlib.import_module(module), name)(config, model, catalog))
