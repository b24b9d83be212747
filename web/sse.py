"""Server-sent events from a watched job: the hot path of every streamed answer.

`id:` is the journal's cursor, so that `Last-Event-ID` resumes. Comments keep a silent stream alive, and find out
within a second or two that its client is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from gateway import results
from gateway.encoding import dumps
from gateway.errors import HeadraceError, Rewound
from gateway.inference import Inference
from gateway.job import Event, EventType, Job
from gateway.watch import Watcher

#: Ends a stream, as OpenAI's clients expect it.
DONE = "data: [DONE]\n\n"
#: Tells a client to reconnect at once.
RETRY = "retry: 200\n: this server restarts, reconnect with Last-Event-ID\n\n"

REWOUND = (
    "Some of this answer is void: the job store came back without its last moments, or a model has begun it anew. "
    "Send the request again."
)


def stream(
    inference: Inference,
    job: Job,
    watcher: Watcher,
    *,
    position: int,
    render_error: Callable[[HeadraceError], str],
    alive: Callable[[], bool],
    can_rewind: bool = True,
) -> Iterator[bytes]:
    """The body of a streamed response. `alive` turns false when this server is to stop.

    `can_rewind`: the client understands that text which it has seen is void; else the stream ends with an error.
    """
    chunks = ChunkEncoder(job)
    started = watcher.seq > 0
    yield f": queued position={position}\n\n".encode() if position else _waiting(inference, job, started)
    for events in watcher.events():
        if not events:
            yield _waiting(inference, job, started)
        else:
            started = True
            if not can_rewind and any(event.type is EventType.REWOUND or results.restarts(event) for event in events):
                yield f"{render_error(Rewound(REWOUND))}{DONE}".encode()
                return
            yield "".join([frame(chunks, event, render_error) for event in events]).encode()
        if not alive() and not watcher.ended:
            yield RETRY.encode()
            return


def frame(chunks: ChunkEncoder, event: Event, render_error: Callable[[HeadraceError], str]) -> str:
    """One event as SSE text."""
    error = results.failure(event)
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
            self._take(results.follow(self._job, event))
        if body["type"] != EventType.DELTA or "lp" in body or "finish" in body or "tool_calls" in body:
            return [dumps(chunk) for chunk in results.chunks(self._job, event)]
        if not body.get("text"):
            return []
        index, text = body.get("index", 0), dumps(body["text"])
        choice = f'{{"index":{index},{self._content}{text}{self._close},"finish_reason":null}}'
        return [f'{self._head},"choices":[{choice}]}}']

    def _take(self, job: Job) -> None:
        """The job as it is from here on: the model that answers may change."""
        self._job = job
        self._head = dumps(results.envelope(job, chunk=True))[:-1]


def _waiting(inference: Inference, job: Job, started: bool) -> bytes:
    """A comment for a client that waits."""
    position = 0 if started else inference.position(job)
    return f": queued position={position}\n\n".encode() if position else b": ping\n\n"
