"""The provider worker process: `python -m workers.provider`. A Celery worker for all remote models of the catalog.

With the id of a job as its argument it runs that job alone, since it may kill whoever runs it, and ends.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from typing import Any

import kombu.exceptions
import redis
from celery import Celery
from celery.signals import worker_ready, worker_shutting_down

from gateway.breaker import Breaker
from gateway.catalog import load_catalog
from gateway.jobs import JobStore
from gateway.locks import dead_holders, drop_lock, hold_lock, report_crashes
from gateway.loop import Loop
from gateway.process import begin
from gateway.queues import make_celery, model_queue, provider_queue, slug
from gateway.recovery import bury, cause_of_death
from gateway.redis import connect
from gateway.registry import Registry
from gateway.routing import Router
from gateway.settings import Settings
from workers.consumer import consume
from workers.providers.secrets import quiet_libraries
from workers.providers.worker import RemoteWorker

log = logging.getLogger("headrace.provider")

#: How long running jobs may still end after SIGTERM.
DRAIN_S = 3.0
#: How often the queues are compared with the catalog, and the dead are looked for.
FOLLOW_S = 0.5
#: Each incarnation holds a lock of its own, so that its death is certain and not only likely.
LOCKS = "provider."


def main() -> int:
    """Run until SIGTERM; or, with the id of a job, until that has ended."""
    settings = Settings.load()
    begin(settings)
    quiet_libraries()
    catalog = load_catalog(settings)
    client = connect(settings)
    store, registry = JobStore(client), Registry(client)
    router = Router(registry=registry, catalog=catalog, breaker=Breaker(store.scripts, settings))
    app = make_celery(settings)
    worker = RemoteWorker(
        settings=settings,
        catalog=catalog,
        store=store,
        registry=registry,
        router=router,
        celery=app,
        alone=len(sys.argv) > 1,
    )
    lock = slug(worker.incarnation)
    handle = hold_lock(settings.data_dir, lock, worker.incarnation)
    report_crashes(settings.data_dir, lock)
    worker.start()
    app.replica = worker
    stop = threading.Event()
    try:
        if worker.alone:
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
            worker.generate(sys.argv[1])
        else:
            worker_shutting_down.connect(lambda **_: _drain(worker, stop), weak=False)
            _consume(app, worker, settings, stop)
    finally:
        stop.set()
        worker.stop(grace_s=0)
        if handle is not None:
            os.close(handle)
        drop_lock(settings.data_dir, lock)
    return 0


def _drain(worker: RemoteWorker, stop: threading.Event) -> None:
    stop.set()
    threading.Thread(target=worker.stop, kwargs={"grace_s": DRAIN_S}, name="drain", daemon=True).start()


def _consume(app: Any, worker: RemoteWorker, settings: Settings, stop: threading.Event) -> None:
    """The Celery worker; returns after SIGTERM, when the running tasks have ended."""
    # A queue of its own, in which nothing ever waits: a Celery worker needs one, and there may be no remote model yet.
    names = [provider_queue(settings.node), *(model_queue(model.id) for model in worker.models())]
    hostname = f"provider@{settings.node}"
    consumed = set(names[1:])

    def look() -> None:
        _bury_the_dead(app, worker)
        _follow(app, worker, hostname, consumed)

    following = Loop(look, name="follow", over=lambda: stop.wait(FOLLOW_S))
    worker_ready.connect(lambda **_: following.start(), weak=False)
    consume(app, settings, hostname=hostname, queues=names, concurrency=settings.provider_concurrency)


def _bury_the_dead(app: Celery, worker: RemoteWorker) -> None:
    """Give back the jobs of those provider workers of this data folder that were killed, and remove their locks."""
    for name, holder in dead_holders(worker.settings.data_dir).items():
        if name.startswith(LOCKS):
            bury(worker.store, app, holder.incarnation, cause_of_death(worker.settings.data_dir, name, holder))
            drop_lock(worker.settings.data_dir, name)


def _follow(app: Any, worker: RemoteWorker, hostname: str, consumed: set[str]) -> None:
    """Consume the queues of those models that the catalog has now."""
    wanted = {model_queue(model.id) for model in worker.models()}
    for name in wanted - consumed:
        if _told(app.control.add_consumer, name, hostname, routing_key=name, options={"no_ack": True}):
            consumed.add(name)
    for name in consumed - wanted:
        if _told(app.control.cancel_consumer, name, hostname):
            consumed.discard(name)


def _told(command: Any, name: str, hostname: str, **more: Any) -> bool:
    """Whether this worker's consumer has heard it; if not, the next round tells it again."""
    try:
        return bool(command(name, destination=[hostname], reply=True, timeout=2, **more))
    except (kombu.exceptions.KombuError, redis.exceptions.RedisError, OSError) as error:
        log.warning("queue %s: %s", name, error)
        return False


if __name__ == "__main__":
    sys.exit(main())
