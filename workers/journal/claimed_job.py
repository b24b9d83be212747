"""A job that a worker holds, and the events that it writes under its claim. Knows no Redis, engine or provider."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from gateway.jobs.events import MAX_BYTES_PER_APPEND, MAX_EVENTS_PER_APPEND, Append, EventType
from gateway.jobs.record import RECORD_VERSION, Job, JobState
from gateway.store import checks
from gateway.store.codec import Unwritable, dumps
from workers.engines.steps import IMPOSSIBLE


class ClaimedJob:
    """The base class of running jobs: collects events, and keeps them until Redis has confirmed them."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.id = job.id
        #: Set when the worker is done with it.
        self.finished = threading.Event()
        #: Why it must be cancelled; empty if it must not.
        self.cancel_reason = job.cancel_reason
        #: Its new events must be written at once: it begins, or it ends.
        self.urgent = False
        self.state: JobState | None = None
        #: The first seq of this claim; `_events` and `_confirmed` count from it.
        self.first_seq = job.seq + 1
        self._events: list[str] = []
        self._confirmed = 0
        #: Progress, and token ids, up to and including each event.
        self._tokens: list[tuple[int, int]] = []
        #: When it was claimed, and when Redis last confirmed events, by the steady clock.
        self.claimed_at = self.confirmed_at = time.monotonic()
        #: The vectors of an event, (offset, bytes), by its index in `_events`.
        self._vectors: dict[int, Sequence[tuple[int, bytes]]] = {}
        #: Deltas that are not an event yet, by choice.
        self._open: dict[int, dict[str, Any]] = {}
        #: Vectors that are not in an event yet, by input.
        self._open_vectors: dict[int, bytes] = {}
        #: Why it failed: `reason`, `message` and more; empty if it did not.
        self.error: dict[str, Any] = {}
        #: The model that it is handed to; then its state is QUEUED.
        self.route = ""

    def usage(self) -> Mapping[str, int]:
        """Tokens so far, for the record."""
        raise NotImplementedError

    def begin(self, info: Mapping[str, Any]) -> None:
        """Write the first event of this claim: `started`, or `resumed` if the journal holds an earlier one."""
        self.event(EventType.RESUMED if self.job.seq else EventType.STARTED, {"v": RECORD_VERSION, **info})

    def extend(self, index: int, *, ids: Sequence[int] = (), text: str = "", **more: Sequence[Any]) -> None:
        """Add to the open delta of a choice; `more` are lists that grow."""
        body = self._open.get(index)
        if body is None:
            body = self._open[index] = {"index": index} if index else {}
        if ids:
            body.setdefault("ids", []).extend(ids)
        for name, values in more.items():
            if values:
                body.setdefault(name, []).extend(map(_possible, values) if name == "lp" else values)
        if text:
            body["text"] = body.get("text", "") + text

    def finish_choice(self, index: int, reason: str) -> None:
        """Close a choice with its finish reason, in the same event as its last delta."""
        self.extend(index)
        self._open[index]["finish"] = reason
        self.urgent = True

    def add_vector(self, index: int, vector: bytes) -> None:
        """Add the vector of one input: float32, little-endian. All of a job have the same length."""
        self._open_vectors[index] = vector

    def done(self) -> None:
        """End it with a full answer."""
        self._end(JobState.DONE, EventType.DONE, {"usage": self.usage()})

    def cancel(self) -> None:
        """End it as cancelled."""
        self._end(JobState.CANCELLED, EventType.CANCELLED, {"reason": self.cancel_reason or "client_request"})

    def fail(self, reason: str, message: str, **details: Any) -> None:
        """End it as failed."""
        if self.state is None:
            self.error = {"reason": reason, "message": message, **details}
        self._end(JobState.FAILED, EventType.FAILED, {"error": self.error})

    def hand_over(self, model: str, body: Mapping[str, Any]) -> None:
        """Hand it over to the queue of another model."""
        if self.state is None:
            self.route = model
        self._end(JobState.QUEUED, EventType.INTERRUPTED, {**body, "next": model})

    def event(self, kind: EventType, body: Mapping[str, Any]) -> None:
        """Add an event after the deltas and vectors so far."""
        self._close()
        self.urgent = True
        self._write(kind, body)

    # -- the way into the journal

    @property
    def flushed(self) -> bool:
        """Whether Redis has confirmed all events."""
        return not self._open and not self._open_vectors and self._confirmed == len(self._events)

    def unconfirmed(self) -> Append | None:
        """The events that Redis has not confirmed yet, or None. Repeated appends send exactly the same events."""
        self._close()
        self.urgent = False
        if self._confirmed == len(self._events):
            return None
        events = self._next_events()
        fields, state = {}, None
        if self._confirmed + len(events) == len(self._events) and self.state is not None:
            state, fields = self.state, {"usage": dumps(self.usage()), **self.job.end_fields()}
            if self.error:
                fields["error"] = dumps(self.error)
            if self.route:
                fields["route"] = self.route
        places = range(self._confirmed, self._confirmed + len(events))
        vectors = [pair for place in places for pair in self._vectors.get(place, ())]
        first_seq = self.first_seq + self._confirmed
        return Append(
            self.id, self.job.claim, first_seq, events, state, fields, vectors, *self._tokens[places.stop - 1]
        )

    def confirm(self, append: Append) -> None:
        """Note that Redis has these events."""
        self._confirmed = append.first_seq + len(append.events) - self.first_seq
        self.confirmed_at = time.monotonic()

    def rewind(self, seq: int) -> bool:
        """Send everything after `seq` again, where the journal ends. False if that is before this claim."""
        if seq < self.first_seq - 1:
            return False
        self._confirmed = seq - self.first_seq + 1
        return True

    def _end(self, state: JobState, kind: EventType, body: Mapping[str, Any]) -> None:
        if self.state is None:
            self.state = state
            self.event(kind, body)

    def _next_events(self) -> list[str]:
        """As many unconfirmed events as one append may hold; at least one."""
        events = self._events[self._confirmed : self._confirmed + MAX_EVENTS_PER_APPEND]
        size = 0
        for count, event in enumerate(events):
            size += len(event) + sum(len(data) for _, data in self._vectors.get(self._confirmed + count, ()))
            if size > MAX_BYTES_PER_APPEND and count:
                return events[:count]
        return events

    def _close(self) -> None:
        """Turn open deltas and vectors into events."""
        for body in self._open.values():
            self._write(EventType.DELTA, body)
        vectors = sorted(self._open_vectors.items())
        self._open, self._open_vectors = {}, {}
        while vectors:
            at_once = max(1, MAX_BYTES_PER_APPEND // len(vectors[0][1]))
            batch, vectors = vectors[:at_once], vectors[at_once:]
            self._vectors[len(self._events)] = [(index * len(vector), vector) for index, vector in batch]
            self._write(EventType.VECTORS, {"done": [index for index, _ in batch]})

    def _write(self, kind: EventType, body: Mapping[str, Any]) -> None:
        event = {"type": kind.value, "c": self.job.claim, **body}
        if problem := checks.event(self.first_seq, event):  # it could not be read again
            raise Unwritable(f"An event of type {kind.value}: {problem}")
        self._events.append(dumps(event))
        progress, ids = self._tokens[-1] if self._tokens else (0, 0)
        self._tokens.append((progress + _progress(kind, body), ids + len(body.get("ids", ()))))


def _possible(entry: Sequence[Any]) -> Sequence[Any]:
    """A log probability entry that is finite, as JSON requires."""
    token, logprob, *more = entry
    if logprob is None or (isinstance(logprob, float) and not math.isfinite(logprob)):
        return token, IMPOSSIBLE, *more
    return entry


def _progress(kind: EventType, body: Mapping[str, Any]) -> int:
    """The progress that an event counts for: its token ids, its vectors, or 1 for text without ids."""
    if kind in (EventType.STARTED, EventType.RESUMED):
        return 0
    return max(1, len(body.get("ids", ())), len(body.get("done", ())))
