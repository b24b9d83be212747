"""Server-sent events from a watched job: the hot path of every streamed answer.

`id:` is the journal's cursor, so that `Last-Event-ID` resumes. Comments keep a silent stream alive, and find out
within a second or two that its client is gone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence

from gateway.errors import HeadraceError, Rewound, Unavailable
from gateway.jobs.job_kind import kind_of
from gateway.jobs.journal import failure, follow, voids
from gateway.jobs.record import Event, EventType, Job
from gateway.jobs.watcher import Watcher
from gateway.store.codec import dumps
from gateway.views.text import PLAIN, envelope
from web.client_errors import client_error

#: Ends a stream, as OpenAI's clients expect it.
DONE = "data: [DONE]\n\n"
#: Tells a client to reconnect at once.
RETRY = "retry: 200\n: this stream ends here, reconnect with Last-Event-ID\n\n"
PING = b": ping\n\n"

REWOUND = (
    "Some of this answer is void: the job store came back without its last moments, or a model has begun it anew. "
    "Send the request again."
)
STALLED = "This client took so long that the job's pieces are put away. GET /jobs/{} has the whole answer."


def stream(
    job: Job,
    watcher: Watcher,
    *,
    position: int,
    render_error: Callable[[HeadraceError], str],
    alive: Callable[[], bool],
    limit_s: float,
    resumable: bool = True,
) -> Iterator[bytes]:
    """The body of a streamed response. `alive` turns false when this server is to stop, and after `limit_s` (0 = never)
    the client is asked to reconnect.

    `resumable`: the client can come back behind a cursor, and understands that text which it has seen is void; else the
    stream goes on for as long as it can, and ends with an error if it must.
    """
    until = time.monotonic() + limit_s if limit_s and resumable else math.inf
    try:
        yield f": queued position={position}\n\n".encode() if position else _waiting(job, watcher)
        chunks = ChunkEncoder(job)
        for events in watcher.events():
            if not resumable and (void := next(filter(voids, events), None)):
                yield f"{render_error(_void(job, void))}{DONE}".encode()
                return
            text, broken = _frames(job, chunks, events, render_error)
            yield text.encode() if events else _waiting(job, watcher)
            if broken:
                return
            if not watcher.ended and (not alive() or time.monotonic() > until):
                yield RETRY.encode()
                return
    except Exception as error:  # noqa: BLE001 - the edge of the response: its client hears of whatever it is
        yield f"{render_error(client_error(error, f'the stream of job {job.id}'))}{DONE}".encode()


def _frames(
    job: Job, chunks: ChunkEncoder, events: Sequence[Event], render_error: Callable[[HeadraceError], str]
) -> tuple[str, bool]:
    """Events as SSE text, and whether one of them can't be written: then the error stands in its place, and the end."""
    found: list[str] = []
    try:
        for event in events:
            found.append(frame(chunks, event, render_error))
    except Exception as error:  # noqa: BLE001 - whatever the journal holds, its client has what came before, and hears of it
        found.append(f"{render_error(client_error(error, f'the stream of job {job.id}'))}{DONE}")
        return "".join(found), True
    return "".join(found), False


def _void(job: Job, event: Event) -> HeadraceError:
    """What a client hears that can't take back what it has."""
    if event.type is EventType.COMPACTED:
        return Unavailable(STALLED.format(job.id), reason="client_stalled")
    return Rewound(REWOUND)


def frame(chunks: ChunkEncoder, event: Event, render_error: Callable[[HeadraceError], str]) -> str:
    """One event as SSE text."""
    error = failure(event)
    if error is not None:
        return f"id: {event.cursor}\n{render_error(error)}{DONE}"
    text = "".join([f"id: {event.cursor}\ndata: {chunk}\n\n" for chunk in chunks.encode(event)])
    return text + DONE if event.type.terminal else text


class ChunkEncoder:
    """Chunk objects as JSON. What is equal in all chunks of a job is encoded once."""

    def __init__(self, job: Job) -> None:
        self._take(job)
        self._content = '"delta":{"content":' if job.kind == "chat" else '"text":'
        self._close = "}" if job.kind == "chat" else ""

    def encode(self, event: Event) -> list[str]:
        """The JSON texts of an event's chunks."""
        body = event.body
        if "model" in body:
            self._take(follow(self._job, event))
        if body["type"] != EventType.DELTA or not body.keys() <= PLAIN:
            return [dumps(chunk) for chunk in kind_of(self._job.kind).chunks(self._job, event)]
        if not body.get("text"):
            return []
        index, text = body.get("index", 0), dumps(body["text"])
        choice = f'{{"index":{index},{self._content}{text}{self._close},"finish_reason":null}}'
        return [f'{self._head},"choices":[{choice}]}}']

    def _take(self, job: Job) -> None:
        """The job as it is from here on: the model that answers may change."""
        self._job = job
        self._head = dumps(envelope(job, chunk=True))[:-1]


def _waiting(job: Job, watcher: Watcher) -> bytes:
    """A comment for a client that waits, whether Redis can say for what or not."""
    position = 0 if watcher.seq else watcher.position(job.runs_on)
    return f": queued position={position}\n\n".encode() if position else PING
