"""The Celery application that senders and workers share: its settings, and the broker's URL."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any
from urllib.parse import quote, urlencode

from celery import Celery
from celery.loaders.app import AppLoader
from celery.signals import setup_logging

from gateway.queue import transport as broker
from gateway.queue.names import Priority
from gateway.settings import Settings
from gateway.store.connection import CONNECT_S, KEEPALIVE
from gateway.store.redis_url import sentinels, url_options


def broker_url(redis_url: str) -> str:
    """kombu's and Celery's spelling of a Redis URL. Raises: InvalidSetting."""
    if watched := sentinels(redis_url):
        who, db = _who(dict(watched.options)), watched.options.get("db", 0)
        return ";".join(f"sentinel://{who}{_in_url(host)}:{port}/{db}" for host, port in watched.hosts)
    options = url_options(redis_url)
    who, db = _who(options), options.pop("db", 0)
    if "path" in options:
        return f"redis+socket://{who}{options['path']}?virtual_host={db}"
    host, port = options.pop("host", "localhost"), options.pop("port", 6379)
    host_and_db = f"{who}{_in_url(host)}:{port}/{db}"
    if redis_url.startswith("redis://"):
        return f"redis://{host_and_db}"
    # redis-py's defaults, which kombu and Celery need spelled out.
    return f"rediss://{host_and_db}?{urlencode({'ssl_cert_reqs': 'required', **options})}"


def _who(options: dict[str, Any]) -> str:
    """Takes user and password out of the options; they stand before the host."""
    who = ":".join(quote(options.pop(name, ""), safe="") for name in ("username", "password")).rstrip(":")
    return f"{who}@" if who else ""


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _options_of_master(redis_url: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """kombu's and Celery's options that URLs of sentinels have no place for: of the transport, and of TLS."""
    watched = sentinels(redis_url)
    if watched is None:
        return {}, {}
    return {"master_name": watched.master_name, "sentinel_kwargs": watched.own_options}, watched.tls


class Loader(AppLoader):  # type: ignore[misc]
    """Imports no module from the current folder, where Celery's own looks first."""

    def import_from_cwd(self, module: str, imp: object = None, package: str | None = None) -> ModuleType:
        """Import a module by Python's own path."""
        return importlib.import_module(module, package)


def _keep_logging(**_: object) -> None:
    """Do nothing: that this signal has a receiver keeps Celery from setting up its own logging."""


setup_logging.connect(_keep_logging)


def make_celery(settings: Settings) -> Celery:
    """The Celery application, without tasks."""
    broker.register()
    url = broker_url(settings.effective_redis_url)
    of_master, tls = _options_of_master(settings.effective_redis_url)
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
            "socket_connect_timeout": CONNECT_S,
            "socket_keepalive": True,
            "socket_keepalive_options": KEEPALIVE,
            **of_master,
        },
        result_backend_transport_options=of_master,
    )
    if tls:
        app.conf.update(broker_use_ssl=tls, redis_backend_use_ssl=tls)
    return app
