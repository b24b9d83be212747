"""Chunk messages as bytes: the hot path of every stream. What is equal in all chunks of a job is encoded once.

Parts of a protobuf message, put one behind the other, are the message.
"""

from __future__ import annotations

from typing import Any

from gateway.jobs.job_kind import kind_of
from gateway.jobs.journal import follow
from gateway.jobs.record import Event, EventType, Job
from gateway.views.text import PLAIN, envelope
from web.rpc.messages import build, build_answer, delimited
from web.rpc.stubs import model_pb2 as pb

#: The message that a chunk of each kind of job is, and the tag of its field in JobEvent.
_KINDS: dict[str, Any] = {
    "chat": pb.ChatCompletionChunk,
    "completion": pb.CompletionChunk,
    "embedding": pb.EmbeddingsProgress,
    "deployment": pb.DeploymentEvent,
}
_TAGS = {"chat": b"\x0a", "completion": b"\x12", "embedding": b"\x22", "deployment": b"\x2a"}


class ChunkEncoder:
    """Turns the events of one job into messages of its kind."""

    def __init__(self, job: Job) -> None:
        self._chat = job.kind == "chat"
        self._kind = _KINDS[job.kind]
        self._take(job)

    def encode(self, event: Event) -> list[bytes]:
        """The chunks of an event; one without visible effect has none."""
        body = event.body
        if "model" in body:
            self._take(follow(self._job, event))
        plain = body["type"] == EventType.DELTA and body.keys() <= PLAIN
        if not plain or self._job.kind not in ("chat", "completion"):
            return [self._full(event, chunk) for chunk in kind_of(self._job.kind).chunks(self._job, event)]
        text = body.get("text")
        if not text:
            return []
        chunk = self._kind(seq=event.seq, claim=event.claim)
        choice = chunk.choices.add(index=body.get("index", 0))
        if self._chat:
            choice.delta.content = text
        else:
            choice.text = text
        return [self._head + chunk.SerializeToString()]

    def _take(self, job: Job) -> None:
        """The job as it is from here on: the model that answers may change."""
        self._job = job
        self._head: bytes = build(self._kind, envelope(job, chunk=True)).SerializeToString()

    def _full(self, event: Event, data: dict[str, Any]) -> bytes:
        """Any chunk."""
        make = build_answer if self._chat else build
        chunk = make(self._kind, {**data, "seq": event.seq, "claim": event.claim})
        if self._job.kind in ("chat", "completion"):
            self._complete(chunk)
        encoded: bytes = chunk.SerializeToString()
        return encoded

    def _complete(self, chunk: Any) -> None:
        """All chunks but that of the usage have a choice, since the document's client reads the first one."""
        if not chunk.choices and not chunk.HasField("usage"):
            chunk.choices.add()
        if self._chat:
            for choice in chunk.choices:
                choice.delta.SetInParent()


def as_job_event(kind: str, chunk: bytes) -> bytes:
    """A JobEvent that holds an encoded chunk."""
    return delimited(_TAGS[kind], chunk)
