"""The model worker process: `python -m workers.model MODEL`. A Celery worker around one resident replica."""

from __future__ import annotations

import argparse
import fcntl
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from celery.signals import worker_shutting_down
from kombu.entity import Exchange, Queue

from gateway.catalog import Model, load_catalog
from gateway.jobs import JobStore
from gateway.queues import make_celery, model_queue, replica_queue, slug
from gateway.redis import connect
from gateway.registry import Registry
from gateway.settings import Settings
from workers.engines.base import EngineConfig
from workers.replica import ReplicaWorker
from workers.work import load_work

log = logging.getLogger("headrace.model")

#: How long running jobs may still end after SIGTERM.
DRAIN_S = 3.0


def engine_config(model: Model, settings: Settings, options: Mapping[str, Any]) -> EngineConfig:
    """What the engine process needs to know."""
    path = model.path()
    return EngineConfig(
        engine=model.engine,
        model_path=str(path) if path else "",
        device="CPU",
        max_batch_size=settings.max_batch_size,
        context_length=model.context_length,
        options={**model.options, **options},
    )


def hold_lock(data_dir: Path, replica_id: str, incarnation: str = "") -> int | None:
    """Take the replica's lock for the life of this process; None if another holds it."""
    path = lock_path(data_dir, replica_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    os.ftruncate(handle, 0)
    os.write(handle, f"{os.getpid()} {incarnation}".encode())
    return handle


def lock_path(data_dir: Path, replica_id: str) -> Path:
    """Where a replica's lock file lies."""
    return data_dir / "run" / f"{replica_id}.lock"


def main() -> int:
    """Run until SIGTERM. Exit status 3: the engine could not be started."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--replica", required=True)
    parser.add_argument("--options", default="{}", help="JSON object for the engine")
    args = parser.parse_args()
    settings = Settings.load()
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    catalog = load_catalog(settings)
    model = catalog.get(args.model)
    client = connect(settings)
    app = make_celery(settings)
    config = engine_config(model, settings, json.loads(args.options))
    worker = ReplicaWorker(
        settings=settings,
        model=model,
        replica_id=args.replica,
        config=config,
        work=load_work(config.engine, config.model_path, model, catalog),
        store=JobStore(client),
        registry=Registry(client),
        celery=app,
    )
    lock = hold_lock(settings.data_dir, args.replica, worker.incarnation)
    if lock is None:
        log.error("replica %s runs already", args.replica)
        return 1
    worker.start()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    while not worker.ready.wait(0.2):
        if worker.failed.is_set():
            worker.stop(grace_s=0)
            return 3
    app.replica = worker
    worker_shutting_down.connect(lambda **_: _drain(worker), weak=False)
    _consume(app, model, settings)
    worker.stop(grace_s=0)
    return 0


def _drain(worker: ReplicaWorker) -> None:
    threading.Thread(target=worker.stop, kwargs={"grace_s": DRAIN_S}, name="drain", daemon=True).start()


def _consume(app: Any, model: Model, settings: Settings) -> None:
    """The Celery worker; returns after SIGTERM, when the running tasks have ended."""
    names = [model_queue(model.id), replica_queue(settings.node, settings.device, model.id)]
    # A hint that is lost is sent again, so the transport need not keep it until it is acknowledged.
    app.conf.task_queues = [Queue(name, Exchange(name), routing_key=name, no_ack=True) for name in names]
    app.Worker(
        hostname=f"{slug(model.id)}@{settings.node}.{settings.device}",
        pool="threads",
        concurrency=settings.max_batch_size,
        queues=names,
        loglevel=settings.log_level,
        without_gossip=True,
        without_mingle=True,
        optimization="fair",
    ).start()


if __name__ == "__main__":
    sys.exit(main())
