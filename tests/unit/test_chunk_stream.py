"""Each face writes the chunks of a job in a short way where it can, and nobody can tell which it was."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.jobs.events import Event
from gateway.jobs.job_kind import kind_of
from gateway.jobs.kinds import KINDS
from gateway.jobs.record import Job, JobState
from gateway.views.chunk_stream import ChunkStream
from web.http.chunks import SseForm, sse_chunks
from web.rpc.chunks import MessageForm, as_job_event, message_chunks
from web.rpc.messages import message_of
from web.rpc.stubs import model_pb2 as pb

TEXT = 'a "b" \\ é \u2028 🎉'
MESSAGES: dict[str, Any] = {"chat": pb.ChatCompletionChunk, "completion": pb.CompletionChunk}
STARTED = {"type": "started", "model": "m", "prompt_tokens": 1}
SHORT = {"type": "delta", "index": 1, "text": TEXT, "ids": [1]}
LONG = {**SHORT, "finish": "stop"}


def job(kind: str) -> Job:
    return Job("job-1", JobState.RUNNING, kind, "m", "key", {"n": 2}, created_at=1_700_000_000_123)


def event(seq: int, **body: Any) -> Event:
    return Event.from_entry(seq, {"c": "c1", **body})


@pytest.mark.parametrize("kind", ["chat", "completion"])
def test_the_short_way_writes_what_the_long_one_does(kind: str) -> None:
    piece = event(7, **SHORT)
    (chunk,) = kind_of(kind).chunks(job(kind), piece)
    (frame,) = sse_chunks(job(kind)).encode(piece)
    long_frame = SseForm(kind).chunk(piece, chunk)
    (head, data), (long_head, long_data) = (text.split("\ndata: ") for text in (frame, long_frame))
    assert (head, json.loads(data)) == (long_head, json.loads(long_data)) == ("id: 7-c1", chunk)
    (message,) = message_chunks(job(kind)).encode(piece)
    parse = MESSAGES[kind].FromString
    assert parse(message) == parse(MessageForm(kind).chunk(piece, chunk))
    assert (parse(message).seq, parse(message).claim, parse(message).choices[0].index) == (7, "c1", 1)


class Ways:
    """A form that says which way each chunk has gone."""

    def __init__(self) -> None:
        self.models: list[str] = []

    def begin(self, head: Any) -> None:
        self.models.append(head["model"])

    def text(self, event: Event, index: int, text: str) -> str:
        return f"short {index} {text}"

    def chunk(self, event: Event, chunk: dict[str, Any]) -> str:
        return f"long {chunk['model']}"


def test_the_head_follows_the_model_that_answers() -> None:
    ways = Ways()
    stream = ChunkStream(job("chat"), ways)
    resumed = {"type": "resumed", "model": "other", "mode": "continue"}
    bodies: list[dict[str, Any]] = [STARTED, SHORT, resumed, SHORT, LONG, {**SHORT, "text": ""}]
    found = [stream.encode(event(seq, **body)) for seq, body in enumerate(bodies, 1)]
    short = [f"short 1 {TEXT}"]
    assert found == [["long m"], short, [], short, ["long other"], []]
    assert ways.models[0] == "m"
    assert ways.models[-1] == "other"


def test_only_jobs_of_text_have_a_short_way() -> None:
    ways = Ways()
    stream = ChunkStream(job("embedding"), ways)
    found = [stream.encode(event(1, **body)) for body in (SHORT, {"type": "vectors", "done": [0]})]
    assert (found, ways.models) == ([[], ["long m"]], [])


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_job_has_a_chunk_and_an_answer_in_grpc(kind: str) -> None:
    message: Any = message_of(pb.JobEvent, kind)
    chunk = message(seq=7, claim="c1").SerializeToString()
    found = pb.JobEvent.FromString(as_job_event(kind, chunk))
    assert found.WhichOneof("event") == kind
    assert getattr(found, kind).seq == 7
    whole = pb.Job()
    getattr(whole, kind).CopyFrom(message_of(pb.Job, kind)())
    assert whole.WhichOneof("result") == kind
