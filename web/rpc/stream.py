"""Streams without threads: what a behaviour returns, and how its messages are sent."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from gateway.errors import InvalidRequest, Unavailable
from gateway.jobs.events import Event
from gateway.jobs.journal import failure
from gateway.jobs.record import Job
from gateway.watching.watcher import Watcher
from web.rpc.call import Call
from web.rpc.stubs import model_pb2 as pb


@dataclass(frozen=True)
class Stream:
    """A job's events as messages."""

    watcher: Watcher
    #: The messages for one event. Must not block.
    encode: Callable[[Event], Iterable[bytes]]
    #: Called in a thread after about a second of silence; returns a message to send meanwhile, or None.
    waiting: Callable[[], bytes | None] | None = None


def watch(call: Call, job: Job, cursor: pb.WatchJobRequest | pb.WatchDeploymentRequest) -> Watcher:
    """Follow a job that the client may see, from behind its cursor, until the call ends. Raises: InvalidRequest."""
    if cursor.from_seq < 0:
        raise InvalidRequest.of({"from_seq": [f"Got {cursor.from_seq}; must be the seq of an event, or 0."]})
    call.job_id = job.id
    call.answer({"x-job-id": job.id})
    watcher = call.gateway.hub.watch(job.id, after=cursor.from_seq, claim=cursor.from_claim)
    call.defer(watcher.close)
    return watcher


async def send(call: Call, stream: Stream) -> None:
    """Send messages as the events come, until the job ends.

    Raises: the error that the job ended with; Unavailable when this process ends, the stream has been open for too
    long, or the client reads nothing.
    """
    watcher = stream.watcher
    limit_s = call.gateway.settings.stream_limit_s
    until = time.monotonic() + limit_s if limit_s else math.inf
    with call.face.wakened_by(watcher) as news:
        while not watcher.ended:
            call.require_running()
            if time.monotonic() > until:
                text = f"This stream has been open for {limit_s:g} s.{call.where}"
                raise Unavailable(text, reason="stream_limit", retry_after_s=0.2)
            news.clear()
            if watcher.lagging:
                for events in await call.in_thread(watcher.catch_up):
                    await _send(call, stream, events)
            elif (taken := watcher.take()) is not None:
                await _send(call, stream, taken)
            elif not watcher.lagging:
                await news.wait()


async def _send(call: Call, stream: Stream, events: list[Event]) -> None:
    for event in events:
        for message in stream.encode(event):
            await call.send(message)
    if events:
        if error := failure(events[-1]):
            raise error
    elif stream.waiting and (waiting := await call.in_thread(stream.waiting)):
        await call.send(waiting)
