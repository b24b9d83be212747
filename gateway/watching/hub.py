"""The hub: one pub/sub connection per process, shared by all its watchers.

Pub/sub is only the fast path: see `gateway/watching/watcher.py`. It uses plain threading primitives, which also work
with gevent's greenlets.
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
#: How often client leases are renewed, and the hub sends a message to itself.
RENEW_S = 2.0
#: Pauses before the leases that Redis refused are tried again.
REFUSED_S = (0.2, 0.4)
#: A connection without any message for this long, its own included, is taken for dead.
SILENCE_S = 10.0
#: How long `close` waits for its threads.
CLOSE_S = 5.0
#: Length of a client lease, on top of the grace period.
CLIENT_LEASE_S = 5.0


class Hub:
    """Receives the events of all jobs that this process watches, and renews their client leases."""

    def __init__(self, client: redis.Redis, store: JobStore, *, grace_s: float) -> None:
        self.id = secrets.token_hex(6)
        self._redis = client
        self.store = store
        self.grace_ms = int(grace_s * 1000)
        self.attended_ms = int((grace_s + CLIENT_LEASE_S) * 1000)
        #: Called in a thread of the hub with the watchers that have something to take, once per message.
        self.on_news: Callable[[Sequence[Watcher]], None] | None = None
        self._watchers: dict[str, list[Watcher]] = {}
        self._lock = threading.Lock()
        self._subscribed = threading.Event()
        #: When Redis was last found to be away; 0 = never.
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
                Loop(self._renew_leases, name="hub-attend", over=lambda: self._closed.wait(RENEW_S)),
                Loop(self._tick, name="hub-tick", over=lambda: self._closed.wait(TICK_S)),
            ]
            for thread in self._threads:
                thread.start()
        self._subscribed.wait(2)

    def close(self) -> None:
        """End its threads. Its watchers get no more events."""
        self._closed.set()
        with contextlib.suppress(*NOT_NOW):
            self._redis.publish(keys.hub(self.id), "[]")  # wakes the listening thread
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
        """Follow a job whose record is about to be created and names this hub, so there is nothing to catch up."""
        watcher = self._add(Watcher(self.store, self.leave, job_id, 0, ""))
        watcher.lagging = False
        return watcher

    def _add(self, watcher: Watcher) -> Watcher:
        self.start()
        with self._lock:
            self._watchers.setdefault(watcher.job_id, []).append(watcher)
        return watcher

    def leave(self, watcher: Watcher) -> None:
        """Remove a watcher. When the last one of a job has left, its client lease is no longer renewed."""
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
        """Remove a watcher without touching the lease. Returns whether it was the last one of its job here."""
        with self._lock:
            others = self._watchers.get(watcher.job_id, [])
            if watcher in others:
                others.remove(watcher)
            return not others and self._watchers.pop(watcher.job_id, None) is not None

    def watching(self) -> int:
        """How many watchers there are."""
        return len(self._all())

    def settling(self) -> bool:
        """Whether Redis is away, or came back so recently that workers may still restore what it has lost."""
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
        """Let all watchers read the journal, since earlier messages were missed."""
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
        """Tick all watchers: one timer for all is cheaper than one for each."""
        self._tell([watcher for watcher in self._all() if watcher.tick()])

    def _renew_leases(self) -> None:
        """Renew the client leases of all watched jobs; those that Redis refuses are tried again soon."""
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
    """The jobs in a message, with their events. An unreadable one is skipped: its watchers read the journal."""
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
