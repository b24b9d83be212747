"""Chunks as server-sent events, whose data is JSON. `id:` is the journal's cursor, so that `Last-Event-ID` resumes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.jobs.events import Event
from gateway.jobs.record import Job
from gateway.store.codec import dumps
from gateway.views.chunk_stream import ChunkStream


def sse_chunks(job: Job) -> ChunkStream[str]:
    """The chunks of a job, each an event of the stream."""
    return ChunkStream(job, SseForm(job.kind))


class SseForm:
    """The head is encoded once, and text put behind it."""

    def __init__(self, kind: str) -> None:
        self._content, self._close = ('"delta":{"content":', "}") if kind == "chat" else ('"text":', "")

    def begin(self, head: Mapping[str, Any]) -> None:
        """All fields before the choices."""
        self._head = dumps(head)[:-1]

    def text(self, event: Event, index: int, text: str) -> str:
        """A chunk with one choice."""
        choice = f'{{"index":{index},{self._content}{dumps(text)}{self._close},"finish_reason":null}}'
        return f'id: {event.cursor}\ndata: {self._head},"choices":[{choice}]}}\n\n'

    def chunk(self, event: Event, chunk: dict[str, Any]) -> str:
        """Any chunk."""
        return f"id: {event.cursor}\ndata: {dumps(chunk)}\n\n"
