"""The Celery worker of agents, model workers and provider workers: takes wake-up messages, runs tasks in threads."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from celery.worker.consumer import Consumer
from kombu.asynchronous import Hub
from kombu.asynchronous.timer import Entry
from kombu.connection import Connection
from kombu.entity import Exchange, Queue

from gateway.settings import Settings
from gateway.store.connection import NOT_NOW

log = logging.getLogger(__name__)

#: How often task events for Flower are sent, and the queues to take from are compared with those that should be.
LOOK_S = 0.5
#: Threads of a worker whose messages only wake it up. While all of them are busy Celery takes no message, and then not
#: before something else happens: with a single one, each message right behind another would come half a second late.
WAKE_UPS = 8


#: Pauses between two tries to reach the broker, in seconds: the first, the increment, and the longest.
RECONNECT_S = {"interval_start": 0.2, "interval_step": 0.2, "interval_max": 1.0}


class WakeUpConsumer(Consumer):  # type: ignore[misc]
    """Takes messages from the queues that it should take from, whatever remote commands have changed.

    It sends task events in batches: Celery's own sends most of them one by one, which takes longer than a claim.
    It reconnects to the broker within a second: Celery's own waits longer each time, up to half a minute.
    """

    _timer: Entry | None = None

    def ensure_connected(self, conn: Connection) -> Connection:
        """Return when the broker is reached."""
        conn.ensure_connection = partial(conn.ensure_connection, **RECONNECT_S)  # type: ignore[method-assign]
        connected: Connection = super().ensure_connected(conn)
        return connected

    def register_with_event_loop(self, hub: Hub) -> None:
        """Start the timer, at the start and after each reconnect."""
        super().register_with_event_loop(hub)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = hub.call_repeatedly(LOOK_S, self._look)

    def _look(self) -> None:
        for kind, fields in self.app.task_events():
            self.event_dispatcher.send(kind, **fields)
        super()._flush_events()
        try:
            self._take_from(set(self.app.wanted_queues()))
            self.app.on_look()
        except NOT_NOW as error:
            log.warning("the queues of this worker are checked later: %s", error)
        except Exception:  # a timer of Celery's loop, which must go on
            log.exception("the queues of this worker could not be checked")

    def _take_from(self, wanted: set[str]) -> None:
        """Consume these queues, and no others."""
        taken = {queue.name for queue in self.task_consumer.queues}
        for name in wanted - taken:
            log.info("queue %s: messages are taken from now on", name)
            self.add_task_queue(name, name, "direct", name, no_ack=True)
        for name in taken - wanted:
            log.info("queue %s: messages are not taken any more", name)
            self.cancel_task_queue(name)

    def _flush_events(self) -> None:
        """Do nothing: Celery's loop calls this after each event, and the timer sends the events instead."""


def consume(
    app: Any,
    settings: Settings,
    *,
    hostname: str,
    queues: Callable[[], Iterable[str]],
    concurrency: int = WAKE_UPS,
    on_look: Callable[[], None] = lambda: None,
    task_events: Callable[[], Iterable[tuple[str, Mapping[str, Any]]]] = tuple,
) -> None:
    """Run tasks until SIGTERM; returns when the running tasks have ended.

    Every `LOOK_S` seconds `queues` is called for the queues to take from, and then `on_look`, as a sign of life; and
    `task_events`, each its kind and its fields, are sent.
    """
    app.wanted_queues, app.on_look, app.task_events = queues, on_look, task_events
    names = list(queues())
    # A lost message is sent again by the keeper, so the transport need not keep it until it is acknowledged.
    app.conf.task_queues = [Queue(name, Exchange(name), routing_key=name, no_ack=True) for name in names]
    app.conf.worker_consumer = WakeUpConsumer
    app.Worker(
        hostname=hostname,
        pool="threads",
        concurrency=concurrency,
        queues=names,
        loglevel=settings.log_level,
        quiet=True,  # no banner, which is no log line
        without_gossip=True,
        without_mingle=True,
        optimization="fair",
    ).start()
