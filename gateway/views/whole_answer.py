"""Waits for the whole answer of a job, for a client that does not stream."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, TypeVar

from gateway.access.api_keys import KeyRecord
from gateway.errors import JobNotFound, StoreUnavailable
from gateway.inference.service import Inference, Submitted
from gateway.jobs.events import Event, EventType
from gateway.jobs.job_kind import kind_of
from gateway.jobs.journal import failure, voids
from gateway.store.connection import NOT_NOW, RETRY_S, retry_until_redis_answers
from gateway.watching.watcher import MISSING_S, Watcher

log = logging.getLogger(__name__)

T = TypeVar("T")


def whole(
    inference: Inference, submitted: Submitted, watcher: Watcher, *, key: KeyRecord, client_left: Callable[[], bool]
) -> dict[str, Any]:
    """Wait for the end of the job, and return its answer. Raises: the error that it ended with.

    If the client leaves, its job is cancelled. `client_left` is called after each batch of events, at least once a
    second.
    """
    job = submitted.job
    events: list[Event] = []
    cancelled = job.detached
    try:
        for new in watcher.events():
            events += new
            if not cancelled and client_left():
                cancelled = _cancelled(inference, job.id, key)
    finally:
        watcher.close()
    if events[-1].type is EventType.EXPIRED:
        raise StoreUnavailable("Redis has lost the request, and all that was made of it. Send it again.")
    error = failure(events[-1])
    if error is not None:
        raise error
    if inference.hub.settling() or any(voids(event) for event in events):
        events = read_when_there(lambda: _ended_journal(inference, job.id), client_left=client_left)
    return read_when_there(lambda: kind_of(job.kind).answer(inference.store, job, events), client_left=client_left)


def _cancelled(inference: Inference, job_id: str, key: KeyRecord) -> bool:
    """Cancel the job. Returns False while Redis is away: it is tried again after the next batch."""
    try:
        inference.cancel(job_id, key=key)
    except (*NOT_NOW, StoreUnavailable) as error:
        log.warning("job %s: not cancelled, though its client has left (%s)", job_id, error)
        return False
    except JobNotFound:
        pass  # nothing to cancel
    return True


def _ended_journal(inference: Inference, job_id: str) -> list[Event]:
    """The journal up to the end of the job. Raises: JobNotFound."""
    events = inference.store.journals.read(job_id)
    if not events or not events[-1].type.terminal:
        raise JobNotFound("The job's record has expired; nothing more can be read of it.", reason="expired")
    return events


def read_when_there(read: Callable[[], T], *, client_left: Callable[[], bool]) -> T:
    """Read from Redis, again while it is away, or while workers may still restore what it has lost.

    Raises:
        StoreUnavailable: the client has left while Redis was away.
        JobNotFound: Redis answers, but has been without the job for too long, or the client has left.
    """
    missing_since = 0.0

    def wait(pause_s: float) -> None:
        nonlocal missing_since
        missing_since = 0.0  # no worker can restore anything now
        if client_left():
            raise StoreUnavailable("The client has left while Redis could not be read.")
        time.sleep(pause_s)

    while True:
        try:
            return retry_until_redis_answers(read, what="a whole answer", wait=wait)
        except JobNotFound:
            missing_since = missing_since or time.monotonic()
            if client_left() or time.monotonic() > missing_since + MISSING_S:
                raise
        time.sleep(RETRY_S)
