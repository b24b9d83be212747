"""The Celery configuration that senders and workers share, and the names and priorities of queues.

A message carries one argument, the job id, and is only a hint: losing it, or sending it twice, does no harm.
"""

from __future__ import annotations

import importlib
import logging
import re
from enum import IntEnum
from types import ModuleType
from urllib.parse import quote, urlencode

from celery import Celery
from celery.loaders.app import AppLoader
from celery.signals import setup_logging
from kombu.utils.uuid import uuid

from gateway.queue import transport as broker
from gateway.queue.wake_ups import DEPLOY, GENERATE
from gateway.settings import Settings
from gateway.store.connection import KEEPALIVE, NOT_NOW, url_options

log = logging.getLogger(__name__)


class Priority(IntEnum):
    """Steps of kombu's Redis transport; the lowest number is served first."""

    #: A job that lost its worker, or waited through two ageing periods.
    RECOVERED = 0
    #: Somebody waits for the answer.
    INTERACTIVE = 3
    #: A background job that has waited for one ageing period.
    AGED = 6
    #: A background job.
    BACKGROUND = 9


def slug(model_id: str) -> str:
    """A model id made safe for queue and worker names (Celery splits at `@` and expands `%`)."""
    return re.sub(r"[^A-Za-z0-9.-]", lambda match: f"_{ord(match[0]):x}_", model_id)


def model_queue(model_id: str) -> str:
    """The queue that all replicas of a model share."""
    return f"model.{slug(model_id)}"


def provider_queue(node: str) -> str:
    """The queue of a provider worker itself, in which nothing waits."""
    return f"provider.{node}"


def device_queue(node: str, device: str) -> str:
    """The queue of one agent."""
    return f"gpu.{node}.{device}"


def replica_queue(node: str, device: str, model_id: str) -> str:
    """The queue of one replica, for requests that are pinned to it."""
    return f"{device_queue(node, device)}.{slug(model_id)}"


def device_place(node: str, device: str) -> str:
    """Where a job waits that the agent of a device runs; model ids never begin with `@`."""
    return f"@{node}.{device}"


def queue_of(place: str) -> str:
    """The queue of a model, or of a `device_place`."""
    return f"gpu.{place[1:]}" if place.startswith("@") else model_queue(place)


def lists(queue: str) -> list[str]:
    """The Redis lists behind a queue, one for each priority."""
    return [queue if step == 0 else f"{queue}:{step.value}" for step in Priority]


def broker_url(redis_url: str) -> str:
    """kombu's and Celery's spelling of a Redis URL. Raises: InvalidSetting."""
    options = url_options(redis_url)
    who = ":".join(quote(options.pop(name, ""), safe="") for name in ("username", "password")).rstrip(":")
    at, db = f"{who}@" if who else "", options.pop("db", 0)
    if "path" in options:
        return f"redis+socket://{at}{options['path']}?virtual_host={db}"
    host, port = options.pop("host", "localhost"), options.pop("port", 6379)
    place = f"{at}{f'[{host}]' if ':' in host else host}:{port}/{db}"
    if redis_url.startswith("redis://"):
        return f"redis://{place}"
    # What redis-py takes for granted, they want to be told.
    return f"rediss://{place}?{urlencode({'ssl_cert_reqs': 'required', **options})}"


class Loader(AppLoader):  # type: ignore[misc]
    """Celery's own looks into the current folder first, whatever lies there."""

    def import_from_cwd(self, module: str, imp: object = None, package: str | None = None) -> ModuleType:
        """Import a module, from where all others come."""
        return importlib.import_module(module, package)


def _keep_logging(**_: object) -> None:
    """That somebody hears this keeps Celery from logging in its own way."""


setup_logging.connect(_keep_logging)


def make_celery(settings: Settings) -> Celery:
    """The Celery application, without tasks."""
    broker.register()
    url = broker_url(settings.effective_redis_url)
    app = Celery("headrace", broker=url, loader=Loader, set_as_current=False)
    app.conf.update(
        imports=("tasks.inference", "tasks.deploy"),
        # Only deployments have results: their progress. See `workers/agent/rollout_journal.py`.
        result_backend=url,
        result_backend_thread_safe=True,
        accept_content=["json"],
        task_serializer="json",
        task_ignore_result=True,
        task_acks_late=False,
        task_create_missing_queues=True,
        worker_disable_prefetch=True,
        worker_prefetch_multiplier=1,
        worker_send_task_events=True,
        worker_hijack_root_logger=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        # Redis' error replies: full, read only, failing over. Without this they end the worker.
        broker_channel_error_retry=True,
        task_publish_retry_policy={"max_retries": 2, "interval_start": 0.05, "interval_step": 0.1},
        broker_transport_options={
            "priority_steps": [step.value for step in Priority],
            "sep": ":",
            "queue_order_strategy": "priority",
            "socket_connect_timeout": 2,
            "socket_keepalive": True,
            "socket_keepalive_options": KEEPALIVE,
        },
    )
    return app


def enqueue_or_leave_to_keeper(app: Celery, job_id: str, *, place: str, priority: Priority, queue: str = "") -> None:
    """As `enqueue`, but if it can't be sent now, it is left to the keeper."""
    try:
        enqueue(app, job_id, place=place, priority=priority, queue=queue)
    except NOT_NOW as error:
        log.warning("job %s: hint not sent (%s); the keeper will send it again", job_id, error)


def enqueue(app: Celery, job_id: str, *, place: str, priority: Priority, queue: str = "") -> None:
    """Tell a queue that a job waits. `place` is a model, or the device whose agent runs it.

    `queue` names another one than that of the place: a replica's own.
    Celery makes the message and kombu sends it, without the routers, signals and events of `send_task`: half the time.
    """
    task, task_id = (DEPLOY, job_id) if place.startswith("@") else (GENERATE, uuid())
    message = app.amqp.as_task_v2(task_id, task, args=[job_id], ignore_result=True)
    with app.producer_or_acquire() as producer:
        producer.publish(
            message.body,
            routing_key=queue or queue_of(place),
            headers=message.headers,
            priority=int(priority),
            serializer="json",
            retry=True,
            retry_policy=app.conf.task_publish_retry_policy,
            **message.properties,
        )
