"""Waiting for the whole answer of a job, for a client that does not stream."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gateway import results
from gateway.credentials import KeyRecord
from gateway.inference import Inference, Submitted
from gateway.job import Event
from gateway.watch import Watcher


def whole(
    inference: Inference, submitted: Submitted, watcher: Watcher, *, key: KeyRecord, client_left: Callable[[], bool]
) -> dict[str, Any]:
    """The answer, when the job has ended. Raises: the error that it ended with.

    A client that leaves takes its job with it, since nobody could read the answer. `client_left` is asked after each
    batch of events, at least once a second.
    """
    events: list[Event] = []
    left = False
    wanted = submitted.job.request.get("detach") or submitted.job.fingerprint
    try:
        for new in watcher.events():
            events += new
            if not wanted and not left and client_left():
                left = True
                inference.cancel(submitted.job.id, key=key)
    finally:
        watcher.close()
    error = results.failure(events[-1])
    if error is not None:
        raise error
    return inference.answer(submitted.job, events)
