"""The Celery worker of processes that run jobs of models: takes hints from queues, and hands them to threads."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from celery import Celery
from celery.worker.consumer import Consumer
from kombu.asynchronous import Hub
from kombu.asynchronous.timer import Entry
from kombu.entity import Exchange, Queue

from gateway.settings import Settings

#: How often what Flower shows of tasks is sent.
EVENTS_S = 0.5
#: How often a lost connection to Redis is tried again.
RECONNECT_S = 0.5


class SteadyConsumer(Consumer):  # type: ignore[misc]
    """Comes back soon after Redis has. Celery's own waits longer after each try, up to 30 s: who asks for something
    then would wait for as long.
    """

    def ensure_connected(self, conn: Any) -> Any:
        """Connect, however often it takes."""
        steady = {"interval_start": RECONNECT_S, "interval_step": 0, "interval_max": RECONNECT_S}
        conn.ensure_connection = partial(conn.ensure_connection, **steady)
        return super().ensure_connected(conn)


class BatchingConsumer(SteadyConsumer):
    """Sends events of tasks together. Celery's own sends most of them one by one, which takes longer than a claim."""

    _timer: Entry | None = None

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
    app.conf.worker_consumer = BatchingConsumer
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
