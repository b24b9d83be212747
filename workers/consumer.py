"""The Celery worker of agents, model workers and provider workers: takes hints from queues, hands them to threads."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from celery import Celery
from celery.worker.consumer import Consumer
from kombu.asynchronous import Hub
from kombu.asynchronous.timer import Entry
from kombu.connection import Connection
from kombu.entity import Exchange, Queue

from gateway.settings import Settings

#: How often what Flower shows of tasks is sent.
EVENTS_S = 0.5


#: Pauses between two tries to reach the broker, in seconds: the first, how much longer each is, and the longest.
RECONNECT_S = {"interval_start": 0.2, "interval_step": 0.2, "interval_max": 1.0}


class HintConsumer(Consumer):  # type: ignore[misc]
    """Sends events of tasks together. Celery's own sends most of them one by one, which takes longer than a claim.

    It notices within a second that the broker is back; Celery's own waits longer each time, up to half a minute.
    """

    _timer: Entry | None = None

    def ensure_connected(self, conn: Connection) -> Connection:
        """Return when the broker is reached."""
        conn.ensure_connection = partial(conn.ensure_connection, **RECONNECT_S)  # type: ignore[method-assign]
        connected: Connection = super().ensure_connected(conn)
        return connected

    def register_with_event_loop(self, hub: Hub) -> None:
        """Begin to send, at the start and after each reconnect."""
        super().register_with_event_loop(hub)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = hub.call_repeatedly(EVENTS_S, super()._flush_events)

    def _flush_events(self) -> None:
        """Celery has the loop call this after each event. The loop wakes, and takes the next hint; the timer sends."""


def consume(app: Celery, settings: Settings, *, hostname: str, queues: Sequence[str], concurrency: int) -> None:
    """Take hints until SIGTERM; returns when the running tasks have ended."""
    # A hint that is lost is sent again, so the transport need not keep it until it is acknowledged.
    app.conf.task_queues = [Queue(name, Exchange(name), routing_key=name, no_ack=True) for name in queues]
    app.conf.worker_consumer = HintConsumer
    app.Worker(
        hostname=hostname,
        pool="threads",
        concurrency=concurrency,
        queues=list(queues),
        loglevel=settings.log_level,
        without_gossip=True,
        without_mingle=True,
        optimization="fair",
    ).start()
