"""The chunks of one job's events, in the form in which a face sends them: the hot path of every streamed answer.

Nearly all events bring a piece of text for one choice, and nothing else. For these there is a fast path: the fields
that all chunks of a job share are written once. Knows no JSON, protobuf or HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, Protocol, TypeVar

from gateway.jobs.events import Event, EventType
from gateway.jobs.job_kind import kind_of
from gateway.jobs.journal import follow
from gateway.jobs.record import Job

#: Fields of a delta that shows only text.
PLAIN = frozenset({"type", "c", "index", "text", "ids"})

T_co = TypeVar("T_co", covariant=True)


class ChunkForm(Protocol[T_co]):
    """How a face writes the chunks of a job."""

    def begin(self, head: Mapping[str, Any]) -> None:
        """Set the fields that all further text chunks share. Called again when another model takes over."""

    def text(self, event: Event, index: int, text: str) -> T_co:
        """A chunk with the head and a piece of one choice's text."""

    def chunk(self, event: Event, chunk: dict[str, Any]) -> T_co:
        """Any other chunk, with all its fields."""


class ChunkStream(Generic[T_co]):
    """Turns a job's events, in order, into what a face sends."""

    def __init__(self, job: Job, form: ChunkForm[T_co]) -> None:
        self._form = form
        self._kind = kind_of(job.kind)
        self._follow(job)

    def encode(self, event: Event) -> list[T_co]:
        """The chunks of an event; one without visible effect has none."""
        body = event.body
        if "model" in body:
            self._follow(follow(self._job, event))
        if not self._has_text or body["type"] != EventType.DELTA or not body.keys() <= PLAIN:
            return [self._form.chunk(event, chunk) for chunk in self._kind.chunks(self._job, event)]
        text = body.get("text")
        return [self._form.text(event, body.get("index", 0), text)] if text else []

    def _follow(self, job: Job) -> None:
        self._job = job
        head = self._kind.text_head(job)
        self._has_text = head is not None
        if head is not None:
            self._form.begin(head)
