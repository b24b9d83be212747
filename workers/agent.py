"""The agent: `python -m workers.agent`. One per device: starts, adopts and restarts its model workers.

Model workers run in sessions of their own and outlive their agent; a new agent adopts by lock, never by a bare pid.
"""

from __future__ import annotations

import fcntl
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import redis
from celery.signals import worker_shutting_down

from gateway import keys
from gateway.queues import device_queue, make_celery, slug
from gateway.redis import CONNECTION_ERRORS, connect, dumps, loads
from gateway.registry import Registry
from gateway.settings import Settings
from workers.model import hold_lock, lock_path

log = logging.getLogger("headrace.agent")

#: Pause between two looks at the replicas.
LOOK_S = 0.3
#: Wait before a worker that died is started again: doubles from the first to the second.
BACKOFF_S = (0.2, 30.0)
#: A worker that lived so long begins anew with its back-off.
HEALTHY_S = 60.0


@dataclass
class Child:
    """A replica as this agent sees it."""

    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    failures: int = 0
    next_start: float = 0.0
    incarnation: str = ""


class Agent:
    """Keeps the replicas of one device as they are desired."""

    def __init__(self, settings: Settings, client: redis.Redis) -> None:
        self.settings = settings
        self.redis = client
        self.registry = Registry(client)
        self.stop = threading.Event()
        self._children: dict[str, Child] = {}

    def want(self, model_id: str, options: Mapping[str, Any] | None = None) -> None:
        """Make a replica of the model part of the desired state. `options` go to its engine."""
        replica_id = f"{slug(model_id)}.{self.settings.node}.{self.settings.device}"
        self.redis.hset(self._desired_key, replica_id, dumps({"model": model_id, "options": options or {}}))

    def run(self) -> None:
        """Look again and again until stopped."""
        while not self.stop.wait(LOOK_S):
            try:
                self.look()
            except CONNECTION_ERRORS as error:
                log.warning("Redis does not answer: %s", error)

    def look(self) -> None:
        """Start what is desired and does not live; notice what died."""
        desired = cast("dict[str, str]", self.redis.hgetall(self._desired_key))
        for replica_id, raw in desired.items():
            child = self._children.setdefault(replica_id, Child())
            holder = lock_holder(self.settings.data_dir, replica_id)
            if holder:
                child.incarnation = holder
                self._reap(child)
            elif child.process is None or child.process.poll() is not None:
                self._revive(replica_id, child, loads(raw))

    @property
    def _desired_key(self) -> str:
        return keys.desired(self.settings.node, self.settings.device)

    def _reap(self, child: Child) -> None:
        if child.process is not None:
            child.process.poll()

    def _revive(self, replica_id: str, child: Child, wanted: Mapping[str, Any]) -> None:
        now = time.monotonic()
        if child.incarnation:
            log.warning("replica %s died; its jobs are recovered now", replica_id)
            self.registry.bury(child.incarnation)
            child.incarnation = ""
        if child.process is not None:
            child.failures = 0 if now - child.started_at > HEALTHY_S else child.failures + 1
            child.next_start = now + min(BACKOFF_S[0] * 2**child.failures, BACKOFF_S[1])
            log.warning("replica %s exited with %s", replica_id, child.process.returncode)
            child.process = None
        if now >= child.next_start:
            child.started_at = now
            child.process = self._spawn(replica_id, wanted)

    def _spawn(self, replica_id: str, wanted: Mapping[str, Any]) -> subprocess.Popen[bytes]:
        logs = self.settings.data_dir / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "workers.model", wanted["model"]]
        with (logs / f"model-{replica_id}.log").open("ab") as output:
            process = subprocess.Popen(
                [*command, "--replica", replica_id, "--options", dumps(wanted["options"])],
                env={**os.environ, **self.settings.environ()},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        log.info("replica %s started as %d", replica_id, process.pid)
        return process


def lock_holder(data_dir: Path, replica_id: str) -> str:
    """The incarnation that holds a replica's lock; empty if nobody does."""
    try:
        handle = os.open(lock_path(data_dir, replica_id), os.O_RDWR)
    except FileNotFoundError:
        return ""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.read(handle, 256).decode().partition(" ")[2]
    else:
        return ""
    finally:
        os.close(handle)


def main() -> int:
    """A Celery worker for the device's queue, with the agent beside it."""
    settings = Settings.load()
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    name = f"agent.{settings.node}.{settings.device}"
    if hold_lock(settings.data_dir, name) is None:
        log.error("an agent for %s.%s runs already", settings.node, settings.device)
        return 1
    agent = Agent(settings, connect(settings, retries=3))
    if settings.demo_model:
        agent.want(settings.demo_model)
    threading.Thread(target=agent.run, name="agent", daemon=True).start()
    worker_shutting_down.connect(lambda **_: agent.stop.set(), weak=False)
    make_celery(settings).Worker(
        hostname=f"agent@{settings.node}.{settings.device}",
        pool="threads",
        concurrency=4,
        queues=[device_queue(settings.node, settings.device)],
        loglevel=settings.log_level,
        without_gossip=True,
        without_mingle=True,
    ).start()
    return 0


if __name__ == "__main__":
    sys.exit(main())
