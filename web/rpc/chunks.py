"""Chunks as encoded messages. Fields that all chunks of a job share are encoded once.

A protobuf message is the concatenation of its encoded parts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.jobs.events import Event
from gateway.jobs.record import Job
from gateway.views.chunk_stream import ChunkStream
from web.rpc.messages import build, build_answer, build_text, delimited, message_of
from web.rpc.stubs import model_pb2 as pb

#: What makes messages of chunks, by the kind of their job; of others as they are.
_BUILDERS: Mapping[str, Any] = {"chat": build_answer, "completion": build_text}
#: The field of a JobEvent in which the chunks of a kind lie.
_NUMBERS: Mapping[str, int] = {field.name: field.number for field in pb.JobEvent.DESCRIPTOR.fields}


def message_chunks(job: Job) -> ChunkStream[bytes]:
    """The chunks of a job, each a message of its kind."""
    return ChunkStream(job, MessageForm(job.kind))


class MessageForm:
    """The head is encoded once, and text put behind it."""

    def __init__(self, kind: str) -> None:
        self._kind: Any = message_of(pb.JobEvent, kind)
        self._chat = kind == "chat"
        self._build = _BUILDERS.get(kind, build)
        self._has_choices = kind in ("chat", "completion")

    def begin(self, head: Mapping[str, Any]) -> None:
        """All fields before the choices."""
        self._head: bytes = build(self._kind, head).SerializeToString()

    def text(self, event: Event, index: int, text: str) -> bytes:
        """A chunk with one choice."""
        chunk = self._kind(seq=event.seq, claim=event.claim)
        choice = chunk.choices.add(index=index)
        if self._chat:
            choice.delta.content = text
        else:
            choice.text = text
        encoded: bytes = self._head + chunk.SerializeToString()
        return encoded

    def chunk(self, event: Event, chunk: dict[str, Any]) -> bytes:
        """Any chunk."""
        message = self._build(self._kind, {**chunk, "seq": event.seq, "claim": event.claim})
        if self._has_choices:
            self._complete(message)
        encoded: bytes = message.SerializeToString()
        return encoded

    def _complete(self, chunk: Any) -> None:
        """Give every chunk a choice, except that of the usage, since the document's client reads the first one."""
        if not chunk.choices and not chunk.HasField("usage"):
            chunk.choices.add()
        if self._chat:
            for choice in chunk.choices:
                choice.delta.SetInParent()


def as_job_event(kind: str, chunk: bytes) -> bytes:
    """A JobEvent that holds an encoded chunk."""
    return delimited(_NUMBERS[kind], chunk)
