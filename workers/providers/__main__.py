"""The provider worker process: `python -m workers.providers`. A Celery worker for all remote models of the catalog.

With a job id as its argument it runs only that quarantined job, and ends.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

from celery import Celery
from celery.signals import worker_ready, worker_shutting_down

from gateway.cluster.registry import Registry
from gateway.deployments.on_demand import on_demand
from gateway.deployments.service import Deployments
from gateway.inference.breaker import Breaker
from gateway.inference.routing import Router
from gateway.jobs.recovery import cause_of_death, reclaim_jobs_of
from gateway.jobs.store import JobStore
from gateway.models.catalog import load_catalog
from gateway.process.locks import dead_holders, drop_lock, hold_lock, report_crashes
from gateway.process.start import run
from gateway.queue.celery_app import make_celery
from gateway.queue.names import model_queue, slug
from gateway.settings import Settings
from gateway.store.connection import connect
from gateway.store.loop import Loop
from workers import providers
from workers.celery_worker import consume
from workers.providers.secrets import quiet_libraries

if TYPE_CHECKING:
    from workers.providers.worker import RemoteWorker

log = logging.getLogger("headrace.provider")

#: How often dead provider workers are looked for.
RECLAIM_S = 0.5
#: Each incarnation holds a lock of its own, so that its death is certain and not only likely.
LOCKS = "provider."


def main(settings: Settings) -> int:
    """Run until SIGTERM; or, with the id of a job, until that has ended."""
    if not providers.is_installed():
        log.error("%s", providers.NOT_INSTALLED)
        return 1
    from workers.providers.worker import RemoteWorker

    quiet_libraries()
    client = connect(settings)
    catalog = load_catalog(settings, client)
    store, registry = JobStore(client), Registry(client)
    app = make_celery(settings)
    deployments = Deployments(settings=settings, store=store, registry=registry, catalog=catalog, celery=app)
    breaker, loader = Breaker(store.scripts, settings), on_demand(deployments)
    router = Router(registry=registry, catalog=catalog, breaker=breaker, loader=loader)
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
    stop, drains = threading.Event(), list[threading.Thread]()
    try:
        if worker.alone:
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
            worker.run(sys.argv[1])
        else:
            worker_shutting_down.connect(lambda **_: drains.append(_drain(worker, stop)), weak=False)
            _consume(app, worker, settings, stop)
    finally:
        for drain in drains:  # Celery ends at once, since it has no part in the running jobs
            drain.join()
        stop.set()
        worker.stop(grace_s=0)
        if handle is not None:
            os.close(handle)
        drop_lock(settings.data_dir, lock)
    return 0


def _drain(worker: RemoteWorker, stop: threading.Event) -> threading.Thread:
    stop.set()
    drain = threading.Thread(
        target=worker.stop, kwargs={"grace_s": worker.settings.shutdown_s}, name="drain", daemon=True
    )
    drain.start()
    return drain


def _consume(app: Any, worker: RemoteWorker, settings: Settings, stop: threading.Event) -> None:
    """The Celery worker; returns after SIGTERM."""

    def queues() -> list[str]:
        return [worker.queue, *(model_queue(model.id) for model in worker.models())]

    reclaiming = Loop(lambda: _reclaim_from_the_dead(app, worker), name="reclaim", over=lambda: stop.wait(RECLAIM_S))
    worker_ready.connect(lambda **_: reclaiming.start(), weak=False)
    hostname = f"provider@{settings.node}"
    consume(
        app,
        settings,
        hostname=hostname,
        queues=queues,
        task_events=worker.task_events.take,
    )


def _reclaim_from_the_dead(app: Celery, worker: RemoteWorker) -> None:
    """Give back the jobs of those provider workers of this data folder that were killed, and remove their locks."""
    for name, holder in dead_holders(worker.settings.data_dir).items():
        if name.startswith(LOCKS):
            reclaim_jobs_of(
                worker.store, app, holder.incarnation, cause_of_death(worker.settings.data_dir, name, holder)
            )
            drop_lock(worker.settings.data_dir, name)


if __name__ == "__main__":
    run(main)
