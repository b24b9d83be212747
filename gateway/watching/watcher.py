"""One client's view of one job: events from the channel if possible, from the journal if necessary.

A gap in seq, an overflow, a second of silence, another claim, or a new subscription make it read the journal, whose
entry at the cursor says whether the client's text is still valid. Knows nothing of threads, faces or how events arrive.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import queue
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from gateway.errors import Unreadable
from gateway.jobs.events import Event, EventType
from gateway.jobs.journal import as_delta, fold, num_indexes
from gateway.jobs.record import JobHead, JobState
from gateway.jobs.store import JobStore
from gateway.store.connection import NOT_NOW

log = logging.getLogger(__name__)

#: Events that wait for a slow client before it falls back to the journal.
MAX_PENDING = 256
#: A record that is missing for this long counts as lost. Until then, workers may restore it after a restart of Redis.
MISSING_S = 10.0
#: Events that show nothing of a job's result.
SILENT = (EventType.STARTED, EventType.RESUMED, EventType.INTERRUPTED)


class Watcher:
    """Follows one job; `close()` it when the client is gone.

    A thread iterates `events()`, which blocks. An event loop calls `take()` when the hub has news, and has `catch_up()`
    called in a thread while the watcher is `lagging`.
    """

    def __init__(self, store: JobStore, leave: Callable[[Watcher], None], job_id: str, after: int, claim: str) -> None:
        self.job_id = job_id
        self.seq = after
        self.claim = claim
        #: The terminal event was returned.
        self.ended = False
        #: The journal must be read before events of the channel are used; until then they are dropped.
        self.lagging = True
        self._active = True
        #: Since when Redis lacks the record, or the entry at the cursor; 0 = it has them.
        self._missing_since = 0.0
        self._store = store
        self._leave = leave
        self._pending: queue.SimpleQueue[list[Event]] = queue.SimpleQueue()

    def push(self, events: list[Event]) -> None:
        """Called by the hub. If the client does not keep up, events are dropped, and it reads the journal later."""
        if self.lagging:
            return
        if self._pending.qsize() > MAX_PENDING:
            self.lagging = True
            return
        self._active = True
        self._pending.put(events)

    def tick(self) -> bool:
        """Called by the hub about once a second: wakes a silent watcher to read the journal. Returns whether it did."""
        silent = not self._active and self._pending.empty()
        if silent:
            self._pending.put([])
        self._active = False
        return silent

    def wake(self) -> None:
        """Make it read the journal, and `events` yield a list, possibly empty, so that its consumer gets control."""
        self._pending.put([])

    def close(self) -> None:
        """Stop watching."""
        self._leave(self)

    def position(self, model: str) -> int | None:
        """Position in the model's queue from 1, 0 if the job does not wait there; None while Redis is away."""
        try:
            return self._store.indexes.position(self.job_id, model)
        except NOT_NOW as error:
            log.warning("job %s: its position in the queue is not known (%s)", self.job_id, error)
            return None

    def events(self) -> Iterator[list[Event]]:
        """Events in order without gap or repeat, up to the terminal one, in the batches in which they arrive.

        An empty list says that about a second has passed in silence.
        """
        while not self.ended:
            if self.lagging:
                yield from self.catch_up()
            elif (events := self._accept(self._pending.get())) is not None:
                yield events

    def begin(self, patience_s: float) -> list[Event]:
        """The first of `events`, up to one that shows something of the job's result, as far as they come in time."""
        until, found = time.monotonic() + patience_s, list[Event]()
        while not self.ended and all(event.type in SILENT for event in found) and time.monotonic() < until:
            if self.lagging:
                found += itertools.chain.from_iterable(self.catch_up())
                continue
            with contextlib.suppress(queue.Empty):
                found += self._accept(self._pending.get(timeout=max(0.0, until - time.monotonic()))) or []
        return found

    def take(self) -> list[Event] | None:
        """The next batch of `events` if it is already here, else None. Does not block."""
        events = None
        while events is None and not self.lagging and not self.ended:
            try:
                events = self._accept(self._pending.get_nowait())
            except queue.Empty:
                break
        return events

    def catch_up(self) -> list[list[Event]]:
        """The next batches of `events`, possibly none, from the journal. Ends `lagging`, unless Redis is away.

        Blocks: it reads from Redis, and sleeps for 0.2 s while Redis is away. Never call it on an event loop.

        A journal that can't be read ends the watcher with an error for its client, not the job.
        """
        while not self._pending.empty():
            self._pending.get_nowait()
        self.lagging = False  # from here on the channel collects; repeats are dropped by seq
        try:
            return self._from_journal()
        except Unreadable as error:
            self.ended = True
            log.error("job %s: %s", self.job_id, error.message)
            failed = {"reason": error.reason, "message": error.message}
            return [[Event(self.seq, {"type": EventType.FAILED.value, "c": self.claim, "error": failed})]]
        except NOT_NOW as error:
            self.lagging = True
            self._missing_since = 0.0
            log.warning("job %s: journal not readable (%s), trying again", self.job_id, error)
            time.sleep(0.2)
            return [[]]

    def _accept(self, events: list[Event]) -> list[Event] | None:
        """The new events in a batch of the channel; None if there are none. After a gap, silence, or an event of
        another claim, the watcher lags: the journal must be read."""
        if not events or events[0].seq > self.seq + 1 or self._foreign(events):
            self.lagging = True
            return None if events else []
        return self._advance(events) or None

    def _foreign(self, events: list[Event]) -> bool:
        """Whether events have another claim than the entry at the cursor, if there is one."""
        return self.seq > 0 and any(event.claim != self.claim for event in events)

    def _advance(self, events: list[Event]) -> list[Event]:
        """Move the cursor over those events that are new, and return them."""
        new = [event for event in events if event.seq > self.seq]
        if new:
            self.seq, self.claim = new[-1].seq, new[-1].claim
            self.ended = new[-1].type.terminal
        return new

    def _from_journal(self) -> list[list[Event]]:
        """Read what the journal holds beyond the cursor."""
        store = self._store
        batches: list[list[Event]] = []
        events = store.journals.read(self.job_id, after=max(0, self.seq - 1))
        if not events and (waits := self._without_entries(store.heads([self.job_id]).get(self.job_id))) is not None:
            return [waits]
        self._missing_since = 0.0
        if self.seq and not self._confirmed(events):
            events = store.journals.read(self.job_id)
            batches.append([self._replaced(events)])
        if new := self._advance(events):
            batches.append(new)
        elif events:
            self.claim = events[-1].claim
            self.ended = events[-1].type.terminal  # the client had it all already
        return batches

    def _without_entries(self, job: JobHead | None) -> list[Event] | None:
        """The events to return when the journal has no entry at or after the cursor; None if that is normal.

        A missing record, or a journal shorter than the cursor, may still be restored by the worker with the claim, but
        not if another claim holds the job or it has ended.
        """
        held = job is not None and not job.state.ended and (job.state is JobState.QUEUED or job.claim == self.claim)
        if job is None or (self.seq and held):
            now = time.monotonic()
            self._missing_since = self._missing_since or now
            if now < self._missing_since + MISSING_S:
                return []
        if job is not None:
            return None
        self.ended = True
        return [Event(self.seq, {"type": EventType.EXPIRED.value})]

    def _confirmed(self, events: Sequence[Event]) -> bool:
        """Whether the journal still has the last entry that the client has seen."""
        if not events:
            return False
        return events[0].seq == self.seq and (not self.claim or events[0].claim == self.claim)

    def _replaced(self, events: Sequence[Event]) -> Event:
        """The event that replaces everything the client has, since its journal has changed.

        Either a restart of Redis has rewound it, or the job ended a while ago and a snapshot includes the cursor.
        """
        compacted = any(event.type is EventType.SNAPSHOT and event.seq > self.seq for event in events)
        stays = [event for event in events if not event.type.terminal]
        choices = fold(stays, num_choices=num_indexes(stays))
        last = stays[-1] if stays else Event(0, {})
        self.seq, self.claim = last.seq, last.claim
        kind = EventType.COMPACTED if compacted else EventType.REWOUND
        text = {str(index): whole for index, choice in enumerate(choices) if (whole := choice.echo + choice.text)}
        rest = [as_delta(index, replace(choice, echo="", text="")) for index, choice in enumerate(choices)]
        others = [part for part in rest if part.keys() - {"index"}]
        return Event(last.seq, {"type": kind.value, "c": last.claim, "text": text, "choices": others})
