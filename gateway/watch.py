"""Following jobs: one pub/sub connection per process, shared by all its watchers.

Pub/sub is the fast path, never the proof: a gap in seq, an overflow or a second of silence makes a watcher read the
journal. Plain threading primitives, so that it serves threads and gevent's greenlets alike.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import redis

from gateway import keys
from gateway.encoding import loads
from gateway.job import Event, EventType
from gateway.jobs import JobStore
from gateway.redis import NOT_NOW, listen
from gateway.results import fold, num_indexes

log = logging.getLogger(__name__)

#: Events that wait for a slow client before it falls back to the journal.
MAX_PENDING = 256
#: After this long without an event a watcher reads the journal and yields a tick.
TICK_S = 1.0
#: How often it is said that clients are there.
ATTEND_S = 2.0
#: How long a closed hub may take to end its threads.
CLOSE_S = 5.0
#: For how long one refresh says that a client is there, on top of the grace.
ATTENDED_S = 5.0


class Hub:
    """Receives the events of all jobs that this process watches, and refreshes their attendance."""

    def __init__(self, client: redis.Redis, store: JobStore, *, grace_s: float) -> None:
        self.id = secrets.token_hex(6)
        self._redis = client
        self.store = store
        self.grace_ms = int(grace_s * 1000)
        self.attended_ms = int((grace_s + ATTENDED_S) * 1000)
        #: Told, in a thread of the hub, which watchers have something to take: once for all that came at once.
        self.on_news: Callable[[Sequence[Watcher]], None] | None = None
        self._watchers: dict[str, list[Watcher]] = {}
        self._lock = threading.Lock()
        self._subscribed = threading.Event()
        self._closed = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Subscribe, and return when Redis has confirmed it (or after 2 s: the journal serves meanwhile)."""
        with self._lock:
            if self._threads or self._closed.is_set():
                return
            for run in (self._receive, self._attend, self._tick):
                name = f"hub-{run.__name__.strip('_')}"
                self._threads.append(threading.Thread(target=run, name=name, daemon=True))
                self._threads[-1].start()
        self._subscribed.wait(2)

    def close(self) -> None:
        """End its threads. Its watchers hear nothing more."""
        self._closed.set()
        with contextlib.suppress(*NOT_NOW):
            self._redis.publish(keys.hub(self.id), "[]")  # wakes the one that listens
        for thread in self._threads:
            thread.join(CLOSE_S)

    def watch(self, job_id: str, *, after: int = 0, claim: str = "") -> Watcher:
        """Follow a job from behind the cursor (seq, claim)."""
        watcher = self._add(Watcher(self, job_id, after, claim))
        self.store.watch(job_id, hub_id=self.id, attended_ms=self.attended_ms)
        return watcher

    def watch_new(self, job_id: str) -> Watcher:
        """Follow a job that is about to be created, with a record that names this hub: there is nothing to catch up."""
        watcher = self._add(Watcher(self, job_id, 0, ""))
        watcher.lagging = False
        return watcher

    def _add(self, watcher: Watcher) -> Watcher:
        self.start()
        with self._lock:
            self._watchers.setdefault(watcher.job_id, []).append(watcher)
        return watcher

    def leave(self, watcher: Watcher) -> None:
        """Forget a watcher. When the last one of this process has left, the grace period begins."""
        with self._lock:
            others = self._watchers.get(watcher.job_id, [])
            if watcher in others:
                others.remove(watcher)
            last = not others and self._watchers.pop(watcher.job_id, None) is not None
        if last and not watcher.ended:
            try:
                self.store.attend([watcher.job_id], hub_id=self.id, attended_ms=self.grace_ms)
            except NOT_NOW as error:
                log.warning("job %s: departure not noted (%s); attendance runs out by itself", watcher.job_id, error)

    def watching(self) -> int:
        """How many watchers there are."""
        with self._lock:
            return sum(map(len, self._watchers.values()))

    def _receive(self) -> None:
        while not self._closed.is_set():
            try:
                for text in listen(self._redis, keys.hub(self.id), on_subscribed=self._subscribed.set):
                    self._deliver(loads(text))
                    if self._closed.is_set():
                        return
            except NOT_NOW as error:
                log.warning("hub %s lost Redis (%s); watchers read the journal until it is back", self.id, error)
                time.sleep(0.2)

    def _deliver(self, items: list[tuple[str, int, list[dict[str, Any]]]]) -> None:
        news = []
        for job_id, first, bodies in items:
            for watcher in self._watchers.get(job_id, ()):
                watcher.push([Event(first + i, body) for i, body in enumerate(bodies)])
                news.append(watcher)
        self._tell(news)

    def _tell(self, news: Sequence[Watcher]) -> None:
        if news and self.on_news:
            self.on_news(news)

    def _tick(self) -> None:
        """One timer for all watchers is cheaper than one for each event of each."""
        while not self._closed.wait(TICK_S):
            with self._lock:
                watchers = [watcher for watchers in self._watchers.values() for watcher in watchers]
            self._tell([watcher for watcher in watchers if watcher.tick()])

    def _attend(self) -> None:
        while not self._closed.wait(ATTEND_S):
            with self._lock:
                job_ids = list(self._watchers)
            try:
                self.store.attend(job_ids, hub_id=self.id, attended_ms=self.attended_ms)
            except NOT_NOW as error:
                log.warning("hub %s could not refresh attendance: %s", self.id, error)


class Watcher:
    """One client's view of one job; `close()` it when the client is gone.

    A thread iterates `events()`. What may not wait calls `take()` when the hub has news, and has `catch_up()` called
    elsewhere while it is `lagging`.
    """

    def __init__(self, hub: Hub, job_id: str, after: int, claim: str) -> None:
        self.job_id = job_id
        self.seq = after
        self.claim = claim
        #: The terminal event was given out.
        self.ended = False
        #: What the channel brings is not kept; the journal is read before the channel is trusted.
        self.lagging = True
        self._heard = True
        self._hub = hub
        self._pending: queue.SimpleQueue[list[Event]] = queue.SimpleQueue()

    def push(self, events: list[Event]) -> None:
        """Called by the hub. A client that does not keep up costs no memory: it reads the journal later."""
        if self.lagging:
            return
        if self._pending.qsize() > MAX_PENDING:
            self.lagging = True
            return
        self._heard = True
        self._pending.put(events)

    def tick(self) -> bool:
        """Called by the hub about once a second: a silent watcher is woken to read the journal. Whether it was."""
        silent = not self._heard and self._pending.empty()
        if silent:
            self._pending.put([])
        self._heard = False
        return silent

    def wake(self) -> None:
        """Have `events` give an empty list at once, so that whoever iterates it can look around."""
        self._pending.put([])

    def close(self) -> None:
        """Stop watching."""
        self._hub.leave(self)

    def events(self) -> Iterator[list[Event]]:
        """Events in order without gap or repeat, up to the terminal one, in the batches in which they arrive.

        An empty list says that about a second has passed in silence.
        """
        while not self.ended:
            if self.lagging:
                yield from self.catch_up()
            elif (events := self._accept(self._pending.get())) is not None:
                yield events

    def take(self) -> list[Event] | None:
        """The next batch of `events` if the channel has brought it already, else None. Waits for nothing."""
        events = None
        while events is None and not self.lagging and not self.ended:
            try:
                events = self._accept(self._pending.get_nowait())
            except queue.Empty:
                break
        return events

    def catch_up(self) -> list[list[Event]]:
        """The next batches of `events`, possibly none, from the journal. Ends `lagging`, unless Redis is away."""
        while not self._pending.empty():
            self._pending.get_nowait()
        self.lagging = False  # from here on the channel collects; repeats are dropped by seq
        try:
            return self._from_journal()
        except NOT_NOW as error:
            self.lagging = True
            log.warning("job %s: journal not readable (%s), trying again", self.job_id, error)
            time.sleep(0.2)
            return [[]]

    def _accept(self, events: list[Event]) -> list[Event] | None:
        """What is new in a batch of the channel; None for nothing. After a gap or silence the journal is to be read."""
        if not events or events[0].seq > self.seq + 1:
            self.lagging = True
            return None if events else []
        return self._advance(events) or None

    def _advance(self, events: list[Event]) -> list[Event]:
        """Move the cursor over those events that are new, and return them."""
        new = [event for event in events if event.seq > self.seq]
        if new:
            self.seq, self.claim = new[-1].seq, new[-1].claim
            self.ended = new[-1].type.terminal
        return new

    def _from_journal(self) -> list[list[Event]]:
        """Read what the journal holds beyond the cursor."""
        store = self._hub.store
        batches: list[list[Event]] = []
        events = store.journal(self.job_id, after=max(0, self.seq - 1))
        if not events and store.read(self.job_id) is None:
            self.ended = True
            return [[Event(self.seq, {"type": EventType.EXPIRED.value})]]
        if self.seq and not self._confirmed(events):
            events = store.journal(self.job_id)
            batches.append([self._rewound(events)])
        if new := self._advance(events):
            batches.append(new)
        elif events:
            self.ended = events[-1].type.terminal  # the client had it all already
        return batches

    def _confirmed(self, events: list[Event]) -> bool:
        """Whether the journal still holds the entry that the client has seen last."""
        if not events:
            return False
        return events[0].seq == self.seq and (not self.claim or events[0].claim == self.claim)

    def _rewound(self, events: list[Event]) -> Event:
        """The journal is not the one that the client saw: the event that says what stands now.

        It was rewound by a restart of Redis, or it is that of a job that ended a while ago, and holds a snapshot.
        """
        stays = [event for event in events if not event.type.terminal]
        choices = fold(stays, num_choices=num_indexes(stays))
        text = {str(index): choice.text for index, choice in enumerate(choices) if choice.text}
        last = stays[-1] if stays else Event(0, {})
        self.seq, self.claim = last.seq, last.claim
        return Event(last.seq, {"type": EventType.REWOUND.value, "c": last.claim, "text": text})
