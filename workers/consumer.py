"""The Celery worker of processes that run jobs of models: takes hints from queues, and hands them to threads."""

from __future__ import annotations

from collections.abc import Sequence

from celery import Celery
from kombu.entity import Exchange, Queue

from gateway.settings import Settings


def consume(app: Celery, settings: Settings, *, hostname: str, queues: Sequence[str], concurrency: int) -> None:
    """Take hints until SIGTERM; returns when the running tasks have ended."""
    # A hint that is lost is sent again, so the transport need not keep it until it is acknowledged.
    app.conf.task_queues = [Queue(name, Exchange(name), routing_key=name, no_ack=True) for name in queues]
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
