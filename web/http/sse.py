"""The stream of server-sent events from a watched job, up to its end.

Comments keep a silent stream alive, and show within a second or two that its client is gone.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from flask import Response, request

from gateway.errors import HeadraceError, Rewound, Unavailable
from gateway.inference.waiting import Wait
from gateway.jobs.events import Event, EventType
from gateway.jobs.journal import failure, voids
from gateway.jobs.record import Job
from gateway.views.chunk_stream import ChunkStream
from gateway.watching.watcher import SILENT, Watcher
from web.client_errors import client_error
from web.http.dialect import Dialect

#: Tells a client to reconnect at once.
RETRY = "retry: 200\n: this stream ends here, reconnect with Last-Event-ID\n\n"
#: Comments are single lines, without an empty one behind them: OpenAI's SDK for Python and httpx-sse would take that
#: for an event without data when an event with an id came before, and fail to read it.
PING = b": ping\n"
#: A client that reads nothing for this long is disconnected.
SEND_TIMEOUT_S = 30.0

REWOUND = (
    "Some of this answer is void: the job store came back without its last moments, or a model has begun it anew. "
    "Send the request again."
)
STALLED = "This client took so long that the job's pieces are put away. GET /jobs/{} has the whole answer."


def response(body: Iterable[bytes]) -> Response:
    """A response that is a stream of events, which no proxy may keep back."""
    connection: Any = request.environ.get("gunicorn.socket")
    if connection is not None:
        connection.settimeout(SEND_TIMEOUT_S)
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return Response(body, mimetype="text/event-stream", headers=headers)


def first_events(watcher: Watcher, dialect: Dialect) -> list[Event]:
    """What a stream begins with; empty if nothing has come in time. Raises: the error that its client is told early."""
    begun = watcher.begin(dialect.patience_s)
    if dialect.tells_early_errors and begun and all(event.type in SILENT for event in begun[:-1]):
        error = _ending(begun[-1], dialect)
        if error is not None:
            raise error
    return begun


def stream(
    job: Job,
    watcher: Watcher,
    dialect: Dialect,
    *,
    begun: list[Event],
    position: int,
    wait: Callable[[int], Wait],
    alive: Callable[[], bool],
    limit_s: float,
) -> Iterator[bytes]:
    """The body of a streamed response, which has `begun` with these events.

    `position` is that in the queue (0 = unknown), `wait` tells what one waits for there, and how long. `alive` returns
    False when this server stops. After `limit_s` (0 = never) a client that can resume is asked to reconnect.
    """
    until = time.monotonic() + limit_s if limit_s and dialect.resumable else math.inf
    try:
        if not begun:
            yield _queued(position, wait) if position else _waiting(job, watcher, wait)
        chunks = dialect.chunks(job)
        for events in itertools.chain([begun] if begun else [], watcher.events()):
            if not dialect.resumable and (void := next(filter(voids, events), None)):
                raise _void(job, void)
            text, broken = _frames(job, chunks, events, dialect)
            yield text.encode() if events else _waiting(job, watcher, wait)
            if broken:
                return
            if not watcher.ended and (not alive() or time.monotonic() > until):
                yield RETRY.encode()
                return
    except Exception as error:  # noqa: BLE001 - the edge of the response: its client gets any error
        yield _failed(job, error, dialect).encode()


def _frames(job: Job, chunks: ChunkStream[str], events: Sequence[Event], dialect: Dialect) -> tuple[str, bool]:
    """Events as SSE text, and whether one can't be written: then the text ends with an error event instead of it."""
    found: list[str] = []
    try:
        for event in events:
            found.append(frame(chunks, event, dialect))
    except Exception as error:  # noqa: BLE001 - whatever the journal holds, its client has what came before, and hears of it
        found.append(_failed(job, error, dialect))
        return "".join(found), True
    return "".join(found), False


def _failed(job: Job, error: Exception, dialect: Dialect) -> str:
    """The error, and the end."""
    return dialect.error_event(client_error(error, f"the stream of job {job.id}")) + dialect.end


def _void(job: Job, event: Event) -> HeadraceError:
    """The error for a client that can't take text back."""
    if event.type is EventType.COMPACTED:
        return Unavailable(STALLED.format(job.id), reason="client_stalled")
    return Rewound(REWOUND)


def frame(chunks: ChunkStream[str], event: Event, dialect: Dialect) -> str:
    """One event as SSE text."""
    error = _ending(event, dialect)
    if error is not None:
        return f"id: {event.cursor}\n{dialect.error_event(error)}{dialect.end}"
    text = "".join(chunks.encode(event))
    return text + dialect.end if event.type.terminal else text


def _ending(event: Event, dialect: Dialect) -> HeadraceError | None:
    """The error that an event ends a stream with, if it does."""
    return dialect.cancelled if event.type is EventType.CANCELLED else failure(event)


def _waiting(job: Job, watcher: Watcher, wait: Callable[[int], Wait]) -> bytes:
    """A comment for a waiting client, with its position in the queue if Redis can tell it."""
    position = 0 if watcher.seq else watcher.position(job.runs_on)
    return _queued(position, wait) if position else PING


def _queued(position: int, wait: Callable[[int], Wait]) -> bytes:
    """The position, and behind it how far the model is, if it is being loaded."""
    found = wait(position)
    text = f": queued position={position}{'' if found.eta_s is None else f' eta={found.eta_s:g}'}\n"
    if loading := found.loading:
        text += f": loading {loading.progress} %{f' stage={loading.stage}' if loading.stage else ''}\n"
    return text.encode()
