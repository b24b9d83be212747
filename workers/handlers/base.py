"""What is special about one kind of job on a replica: how it becomes sequences, and what their outputs come to.

The rest is the same for all kinds, and in `workers/replica/`: claims, slots, the engine's life, the journal.
"""

from __future__ import annotations

import importlib
from typing import Protocol, cast

from gateway.jobs.record import Job
from gateway.jobs.resume_point import ResumePoint
from gateway.models.catalog import Catalog, Model
from gateway.models.engines import spec_of
from workers.engines.base import EngineConfig, SequenceOutput, SequenceRequest
from workers.journal.claimed_job import ClaimedJob

#: Finish reasons that end the whole job, and why it has failed.
ENGINE_ERRORS = {"error": "invalid_request", "failed": "generation_failed"}


class EngineRun(ClaimedJob):
    """A claimed job whose sequences are in an engine. Only the emitter thread changes it once they are there."""

    #: Tokens that this claim has brought forward.
    new_tokens = 0
    #: The most that the job may use, its prompt counted.
    most_tokens = 0

    def requests(self, first_sequence_id: int) -> list[SequenceRequest]:
        """What to ask of the engine: sequence `i` of the job has that id + i. Those that have ended are left out."""
        raise NotImplementedError

    def take(self, index: int, output: SequenceOutput) -> bool:
        """Add what the engine made for one sequence. True if the sequence must be stopped."""
        raise NotImplementedError


class Work(Protocol):
    """One kind of job, for one model."""

    #: Names the tokenizer; a resume needs the same.
    digest: str

    def prepare(self, job: Job, resume_point: ResumePoint | None) -> EngineRun:
        """Tokenize, and replay what was published before. Raises: HeadraceError if the job can't run."""

    def check(self) -> list[str]:
        """Try what only requests use. Returns what people should know. Raises: DeploymentFailed if it is of no use."""

    def probe(self) -> SequenceRequest:
        """The least that an engine can be asked, as sequence 0."""


def load_work(config: EngineConfig, model: Model, catalog: Catalog) -> Work:
    """The work that replicas with this engine do."""
    module, _, name = spec_of(config.engine).job_handler.partition(":")
    return cast(Work, getattr(importlib.import_module(module), name)(config, model, catalog))
