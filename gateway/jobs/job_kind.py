"""The contract of a kind of job. The kinds themselves are in `gateway/kinds`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from typing import Any, ClassVar, cast

from gateway.jobs.events import Event
from gateway.jobs.kinds import KINDS
from gateway.jobs.record import Job, JobHead
from gateway.jobs.store import JobStore
from gateway.models.entry import Model


class JobKind(ABC):
    """One kind of job. Stateless."""

    #: The capability that its model must have; empty if it runs no model.
    capability: ClassVar[str]

    def complete(self, model: Model, request: Mapping[str, Any]) -> dict[str, Any]:
        """The request with the model's defaults. Raises: InvalidRequest if the model can't do it."""
        return dict(request)

    def estimate(self, model: Model, request: Mapping[str, Any]) -> int:
        """Tokens to reserve for a complete request, before a tokenizer has counted its prompt."""
        return 0

    def most(self, model: Model, request: Mapping[str, Any]) -> int:
        """The most tokens that it may come to; more than is reserved only where nobody has limited its answer."""
        return self.estimate(model, request)

    def slots(self, request: Mapping[str, Any]) -> int:
        """How many sequences the job is in a batch. One, however large it is, unless it has several answers."""
        return 1

    @abstractmethod
    def chunks(self, job: Job, event: Event) -> list[dict[str, Any]]:
        """The stream chunks for one event; an event without visible effect gives none."""

    def text_head(self, job: Job) -> Mapping[str, Any] | None:
        """The common fields of the job's text chunks, for its present model; None if its chunks have no text."""
        return None

    @abstractmethod
    def answer(self, store: JobStore, job: Job, events: Sequence[Event]) -> dict[str, Any]:
        """The full answer of a job that has ended with these events. Raises: JobNotFound if a part of it is gone."""

    def on_end(self, store: JobStore, job: Job) -> None:  # noqa: B027 - most kinds have nothing to do then
        """Called when the job was ended from outside the worker that runs it."""


@cache
def kind_of(name: str) -> JobKind:
    """The kind of that name. Raises: KeyError."""
    module, _, implementation = KINDS[name].implementation.partition(":")
    return cast(JobKind, getattr(import_module(module), implementation)())


def slots_of(store: JobStore, head: JobHead) -> int:
    """How many sequences a job is in a batch: an older version did not write it, so that its request is read for it.

    Raises: Unreadable, NOT_NOW.
    """
    job = None if head.slots else store.read(head.id)
    return kind_of(job.kind).slots(job.request) if job else max(1, head.slots)
