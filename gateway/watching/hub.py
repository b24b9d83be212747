"""Following jobs: one pub/sub connection per process, shared by all its watchers.

Pub/sub is the fast path, never the proof: see `gateway/watching/watcher.py`. Plain threading primitives, so that it
serves threads and gevent's greenlets alike.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import redis

from gateway.errors import Unreadable
from gateway.jobs.events import Event
from gateway.jobs.store import JobStore
from gateway.store import keys
from gateway.store.codec import loads
from gateway.store.connection import NOT_NOW, listen
from gateway.store.loop import Loop
from gateway.watching.watcher import MISSING_S, Watcher

log = logging.getLogger(__name__)

#: After this long without an event a watcher reads the journal and yields a tick.
TICK_S = 1.0
#: How often it is said that clients are there, and the hub sends something to itself.
ATTEND_S = 2.0
#: Pauses before those are tried again whose attendance Redis has refused.
REFUSED_S = (0.2, 0.4)
#: After so long without a message, its own included, the connection is taken for dead.
SILENCE_S = 10.0
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
        #: When Redis was last seen to be gone; 0 = never.
        self._lost_at = 0.0
        self._closed = threading.Event()
        self._threads: list[Loop] = []

    def start(self) -> None:
        """Subscribe, and return when Redis has confirmed it (or after 2 s: the journal serves meanwhile)."""
        with self._lock:
            if self._threads or self._closed.is_set():
                return
            self._threads = [
                Loop(self._receive, name="hub-receive", over=self._closed.is_set),
                Loop(self._attend, name="hub-attend", over=lambda: self._closed.wait(ATTEND_S)),
                Loop(self._tick, name="hub-tick", over=lambda: self._closed.wait(TICK_S)),
            ]
            for thread in self._threads:
                thread.start()
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
        watcher = self._add(Watcher(self.store, self.leave, job_id, after, claim))
        try:
            self.store.watch(job_id, hub_id=self.id, attended_ms=self.attended_ms)
        except BaseException:
            self.forget(watcher)
            raise
        return watcher

    def watch_new(self, job_id: str) -> Watcher:
        """Follow a job that is about to be created, with a record that names this hub: there is nothing to catch up."""
        watcher = self._add(Watcher(self.store, self.leave, job_id, 0, ""))
        watcher.lagging = False
        return watcher

    def _add(self, watcher: Watcher) -> Watcher:
        self.start()
        with self._lock:
            self._watchers.setdefault(watcher.job_id, []).append(watcher)
        return watcher

    def leave(self, watcher: Watcher) -> None:
        """Forget a watcher. When the last one of this process has left, the grace period begins."""
        if not self.forget(watcher) or watcher.ended:
            return
        error: object = "refused"
        try:
            if not self.store.renew_leases([watcher.job_id], hub_id=self.id, attended_ms=self.grace_ms):
                return
        except NOT_NOW as caught:
            error = caught
        log.warning("job %s: departure not noted (%s); attendance runs out by itself", watcher.job_id, error)

    def forget(self, watcher: Watcher) -> bool:
        """Deliver nothing to a watcher any more. Whether it was the last one of its job here."""
        with self._lock:
            others = self._watchers.get(watcher.job_id, [])
            if watcher in others:
                others.remove(watcher)
            return not others and self._watchers.pop(watcher.job_id, None) is not None

    def watching(self) -> int:
        """How many watchers there are."""
        return len(self._all())

    def settling(self) -> bool:
        """Whether Redis is away, or came back a moment ago, so that workers may still put back what it has lost."""
        return self._lost_at > 0 and time.monotonic() < self._lost_at + MISSING_S

    def _all(self) -> list[Watcher]:
        with self._lock:
            return [watcher for watchers in self._watchers.values() for watcher in watchers]

    def _of(self, job_id: str) -> list[Watcher]:
        with self._lock:
            return list(self._watchers.get(job_id, ()))

    def _receive(self) -> None:
        """Listen until the connection breaks."""
        try:
            messages = listen(self._redis, keys.hub(self.id), on_subscribed=self._on_subscribed, silence_s=SILENCE_S)
            for message in messages:
                self._deliver(message)
                if self._closed.is_set():
                    return
        except NOT_NOW as error:
            log.warning("hub %s lost Redis (%s); watchers read the journal until it is back", self.id, error)
            self._lost_at = time.monotonic()
            self._closed.wait(0.2)

    def _on_subscribed(self) -> None:
        """What was published before is missed, so all watchers read the journal."""
        if self._lost_at:
            self._lost_at = time.monotonic()
        self._subscribed.set()
        watchers = self._all()
        for watcher in watchers:
            watcher.wake()
        self._tell(watchers)

    def _deliver(self, message: bytes) -> None:
        news = []
        for job_id, events in _read(message):
            for watcher in self._of(job_id):
                try:
                    watcher.push(events)
                    news.append(watcher)
                except Exception:
                    log.exception("job %s: a watcher can't take its events", job_id)
        self._tell(news)

    def _tell(self, news: Sequence[Watcher]) -> None:
        try:
            if news and self.on_news:
                self.on_news(news)
        except Exception:
            log.exception("hub %s: the news of %d watchers were not heard", self.id, len(news))

    def _tick(self) -> None:
        """One timer for all watchers is cheaper than one for each event of each."""
        self._tell([watcher for watcher in self._all() if watcher.tick()])

    def _attend(self) -> None:
        """Say for whom there are clients: for those that Redis refuses, once more soon."""
        with self._lock:
            job_ids = list(self._watchers)
        for pause_s in REFUSED_S:
            job_ids = self.store.renew_leases(job_ids, hub_id=self.id, attended_ms=self.attended_ms)
            if not job_ids:
                break
            log.warning("hub %s could not refresh the attendance of %d jobs", self.id, len(job_ids))
            self._closed.wait(pause_s)
        self._redis.publish(keys.hub(self.id), "[]")


def _read(message: bytes) -> Iterator[tuple[str, list[Event]]]:
    """The jobs of a message with their events. What can't be read is left out: its watchers find it in the journal."""
    try:
        items = list(loads(message))
    except (ValueError, TypeError) as error:
        log.warning("a message on the channel is not ours (%s): %.200r", error, message)
        return
    for item in items:
        try:
            yield _read_item(item)
        except (ValueError, TypeError, Unreadable) as error:
            log.warning("a part of a message on the channel is not ours (%r): %.200r", error, item)


def _read_item(item: Any) -> tuple[str, list[Event]]:
    job_id, first, bodies = item
    if not isinstance(job_id, str) or type(first) is not int or not isinstance(bodies, list):
        raise TypeError("not a job with events")
    return job_id, [Event.from_entry(first + i, body) for i, body in enumerate(bodies)]
