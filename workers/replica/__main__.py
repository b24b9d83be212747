"""The model worker: `python -m workers.replica MODEL --spec JSON`. A Celery worker around one resident replica.

It ends by itself when the replica is no longer desired, even without an agent.
"""

from __future__ import annotations

import argparse
import logging
import os
import secrets
import signal
import sys
import threading
from collections.abc import Sequence

from celery import Celery
from celery.signals import worker_ready, worker_shutting_down

from gateway.cluster.desired import ReplicaSpec, replica_id
from gateway.cluster.registry import Registry
from gateway.cluster.startup import WORKER, End, StartupLog
from gateway.deployments.memory import UNMEASURED_KV_TOKENS
from gateway.deployments.reasons import DeploymentFailed, FailureReason
from gateway.jobs.store import JobStore
from gateway.models.catalog import Model, load_catalog
from gateway.models.devices import DeviceName
from gateway.process.locks import hold_lock, report_crashes
from gateway.process.start import collect_less, run
from gateway.queue.celery_app import make_celery
from gateway.queue.names import model_queue, replica_queue, slug
from gateway.settings import Settings
from gateway.store.codec import load_as
from gateway.store.connection import connect
from workers.celery_worker import consume
from workers.engines.base import EngineConfig
from workers.handlers.base import load_work
from workers.host.failures import failure_of
from workers.host.venvs import exporter
from workers.replica.worker import ReplicaWorker
from workers.stages import run_stages
from workers.stages.base import Startup

log = logging.getLogger("headrace.model")

#: Exit statuses: it could not be loaded; another process has this replica's lock; its parent died during the start.
FAILED, TAKEN, ORPHANED = 3, 4, 5


def engine_config(
    model: Model,
    settings: Settings,
    spec: ReplicaSpec,
    path: str,
    kv_capacity_tokens: int = 0,
    adapters: Sequence[str] = (),
) -> EngineConfig:
    """The configuration of the engine process."""
    spec = spec.in_full(model, settings.max_batch_size)
    return EngineConfig(
        engine=model.engine,
        model_path=path,
        device=DeviceName.parse(spec.device).in_libraries,
        max_batch_size=spec.max_batch_size,
        context_length=spec.context_length,
        options=spec.options,
        quantization=spec.quantization,
        tensor_parallel_size=spec.tensor_parallel_size,
        use_flash_attention=spec.use_flash_attention,
        use_kv_cache=spec.use_kv_cache,
        cpu_offload=spec.cpu_offload,
        cache_dir=str(settings.data_dir / "exports"),
        exporter=exporter(model.engine, settings.data_dir),
        kv_capacity_tokens=kv_capacity_tokens,
        adapters=adapters,
    )


def main(settings: Settings) -> int:
    """Run until SIGTERM, or until the replica is no longer desired. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--spec", required=True, help="JSON object: what is desired")
    parser.add_argument("--path", default="", help="where the weights lie on this machine")
    parser.add_argument("--planned-bytes", type=int, default=0, help="memory that was planned for it")
    parser.add_argument(
        "--kv-capacity-tokens", type=int, default=UNMEASURED_KV_TOKENS, help="the KV cache that was planned for it"
    )
    parser.add_argument("--agent", type=int, default=0, help="the process that starts it, if that is to live on")
    args = parser.parse_args()
    spec = load_as(ReplicaSpec, args.spec)
    incarnation = f"{spec.replica_id}:{secrets.token_hex(4)}"
    lock = hold_lock(settings.data_dir, spec.replica_id, incarnation)
    if lock is None:
        log.error("replica %s runs already", spec.replica_id)
        return TAKEN
    if args.agent and os.getppid() != args.agent:
        # From here on it is found by its lock, and outlives its agent. An agent that looked before did not see it.
        log.error("replica %s: its agent ended while this worker was not there yet", spec.replica_id)
        return ORPHANED
    report_crashes(settings.data_dir, spec.replica_id)
    app = make_celery(settings)
    worker = _load_worker(app, settings, spec, incarnation, args)
    if worker:
        worker.heartbeat.update(planned_bytes=args.planned_bytes)
    return _run(app, worker) if worker else FAILED


def _load_worker(
    app: Celery, settings: Settings, spec: ReplicaSpec, incarnation: str, args: argparse.Namespace
) -> ReplicaWorker | None:
    """The worker with its tokenizer; None if that can't be read, which is logged for the deployment."""
    client = connect(settings)
    catalog = load_catalog(settings, client)
    model = catalog.get(spec.model)
    adapters = [str(path) for one in catalog if one.base == model.id and (path := one.adapter_path())]
    config = engine_config(model, settings, spec, args.path, args.kv_capacity_tokens, adapters)
    startup_log = StartupLog(client, spec.replica_id)
    try:
        work = load_work(config, model, catalog)
        for text in work.check():
            startup_log.append(level="warning", message=text)
    except Exception as error:  # the process' edge: the deployment must get to know
        log.exception("the tokenizer of %s can't be read", spec.model)
        _report_failure(startup_log, *failure_of(error))
        return None
    return ReplicaWorker(
        settings=settings,
        model=model,
        spec=spec,
        incarnation=incarnation,
        config=config,
        work=work,
        store=JobStore(client),
        registry=Registry(client),
        celery=app,
    )


def _run(app: Celery, worker: ReplicaWorker) -> int:
    """Start the replica, serve, and stop it."""
    up = Startup(
        settings=worker.settings,
        spec=worker.spec,
        model=worker.model,
        log=StartupLog(worker.store.redis, worker.spec.replica_id),
        cancelled=worker.life.unwanted,
        worker=worker,
    )
    failed, drains = threading.Event(), list[threading.Thread]()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        worker.start()
        starting = threading.Thread(target=_start_up, args=(up, worker, failed), name="startup", daemon=True)
        starting.start()
        while not worker.engine.ready.wait(0.1):
            if failed.is_set() or not starting.is_alive():
                return FAILED
        app.replica = worker
        threading.Thread(target=_watch, args=(worker,), name="watch", daemon=True).start()
        worker_ready.connect(lambda **_: worker.consuming.set(), weak=False)
        worker_shutting_down.connect(lambda **_: drains.append(_drain(worker)), weak=False)
        spec = worker.spec
        collect_less()
        consume(
            app,
            worker.settings,
            hostname=f"{slug(spec.model)}{_suffix(worker)}@{spec.node}.{spec.device}",
            queues=lambda: [model_queue(spec.model), replica_queue(spec.node, spec.device, spec.model), worker.queue],
            on_look=worker.consumer.at_work,
            task_events=worker.task_events.take,
        )
        return FAILED if failed.is_set() or worker.life.lost.is_set() else 0
    finally:
        for drain in drains:  # Celery ends at once, since it has no part in the running jobs
            drain.join()
        worker.stop(grace_s=0)


def _start_up(up: Startup, worker: ReplicaWorker, failed: threading.Event) -> None:
    try:
        run_stages(WORKER, up)
        up.log.append(end=End.ACTIVE)
    except Exception as error:  # the process' edge: the deployment must get to know
        if not isinstance(error, DeploymentFailed):
            log.exception("replica %s did not come up", up.spec.replica_id)
        _report_failure(up.log, *failure_of(error))
        failed.set()
        worker.life.over.set()


def _report_failure(startup_log: StartupLog, reason: FailureReason, message: str) -> None:
    """Log the reason for the agent, which decides whether to try again."""
    failure = {"reason": reason.value, "message": message, "remedy": reason.remedy}
    startup_log.append(level="error", message=message, failure=failure)


def _watch(worker: ReplicaWorker) -> None:
    """End the process as SIGTERM would, when the replica can't serve, or should not."""
    worker.life.over.wait()
    os.kill(os.getpid(), signal.SIGTERM)


def _drain(worker: ReplicaWorker) -> threading.Thread:
    """Let requests of an undesired replica end; after a plain SIGTERM give them back sooner."""
    settings = worker.settings
    grace_s = settings.drain_s if worker.life.unwanted.is_set() else settings.shutdown_s
    drain = threading.Thread(target=worker.stop, kwargs={"grace_s": grace_s}, name="drain", daemon=True)
    drain.start()
    return drain


def _suffix(worker: ReplicaWorker) -> str:
    """The part of its id that tells several replicas of a model on one device apart."""
    return worker.spec.replica_id.removeprefix(replica_id(worker.model.id, *worker.spec.address))


if __name__ == "__main__":
    run(main)
