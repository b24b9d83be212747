"""Sends wake-up messages: there is work for a replica or a provider worker, or a job for whoever takes it.

The message carries one argument, the job id, or none. Losing it, or sending it twice, does no harm: the job record is
the truth.
"""

from __future__ import annotations

import logging

from celery import Celery
from kombu.utils.uuid import uuid

from gateway.queue.names import DEPLOY, GENERATE, Priority, is_device, queue_of
from gateway.store.connection import NOT_NOW

log = logging.getLogger(__name__)


def enqueue_or_leave_to_keeper(
    app: Celery, job_id: str, *, queue_key: str, priority: Priority, queue: str = ""
) -> None:
    """As `enqueue`, but a message that can't be sent now is left to the keeper."""
    try:
        enqueue(app, job_id, queue_key=queue_key, priority=priority, queue=queue)
    except NOT_NOW as error:
        log.warning("job %s: wake-up message not sent (%s); the keeper will send it", job_id, error)


def enqueue(app: Celery, job_id: str, *, queue_key: str, priority: Priority, queue: str = "") -> None:
    """Wake up a worker that serves `queue_key`: a model, or a device.

    `queue` names another Celery queue than that of the key: the one of a single replica.
    Celery makes the message and kombu sends it, without the routers, signals and events of `send_task`: half the time.
    Raises: one of `NOT_NOW`.
    """
    task, task_id = (DEPLOY, job_id) if is_device(queue_key) else (GENERATE, uuid())
    _send(app, task, task_id, [job_id], queue or queue_of(queue_key), priority)


def tell(app: Celery, wakes: str, job_id: str, *, queue_key: str, priority: Priority) -> None:
    """Wake the worker whose queue is `wakes`; if that is empty, send the job's own message."""
    if wakes:
        wake(app, wakes)
    else:
        enqueue_or_leave_to_keeper(app, job_id, queue_key=queue_key, priority=priority)


def wake(app: Celery, queue: str) -> None:
    """Tell a worker, by its own queue, that there is work. If that can't be sent now, it looks by itself soon."""
    try:
        _send(app, GENERATE, uuid(), [], queue, Priority.INTERACTIVE)
    except NOT_NOW as error:
        log.warning("%s: not told that there is work (%s); it will look", queue, error)


def _send(app: Celery, task: str, task_id: str, args: list[str], queue: str, priority: Priority) -> None:
    message = app.amqp.as_task_v2(task_id, task, args=args, ignore_result=True)
    with app.producer_or_acquire() as producer:
        producer.publish(
            message.body,
            routing_key=queue,
            headers=message.headers,
            priority=int(priority),
            serializer="json",
            retry=True,
            retry_policy=app.conf.task_publish_retry_policy,
            **message.properties,
        )
