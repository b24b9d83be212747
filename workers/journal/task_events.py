"""What Flower shows of jobs: each is a task of its worker, under its own id, whatever message has led to it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from typing import Any

from gateway.jobs.record import JobState
from gateway.queue.names import GENERATE, queue_of
from workers.journal.claimed_job import ClaimedJob

#: Events that wait to be sent. Those that are too many are lost: they are for people who look on.
MAX_WAITING = 10_000

TaskEvent = tuple[str, Mapping[str, Any]]


class TaskEvents:
    """Events of Celery tasks, until the thread that may send them takes them. Any thread may call it."""

    def __init__(self) -> None:
        self._waiting: deque[TaskEvent] = deque(maxlen=MAX_WAITING)

    def begun(self, job: ClaimedJob) -> None:
        """A worker holds a job now."""
        queue = queue_of(job.job.runs_on)
        task = {"name": GENERATE, "args": f"({job.id!r},)", "kwargs": "{}", "root_id": job.id, "retries": 0}
        self._add("task-received", job, **task, queue=queue, routing_key=queue, eta=None, expires=None)
        self._add("task-started", job)

    def ended(self, job: ClaimedJob) -> None:
        """It holds it no more."""
        if job.state is JobState.DONE:
            self._add("task-succeeded", job, result="", runtime=time.monotonic() - job.claimed_at)
        elif job.state is JobState.FAILED:
            self._add("task-failed", job, exception=str(job.error.get("message", "")), traceback="")
        elif job.state is JobState.CANCELLED:
            self._add("task-revoked", job, terminated=True, signum=None, expired=False)
        else:
            self._add("task-retried", job, exception="It waits for another worker.", traceback="")

    def take(self) -> list[TaskEvent]:
        """Those that have not been sent."""
        return [self._waiting.popleft() for _ in range(len(self._waiting))]

    def _add(self, kind: str, job: ClaimedJob, **fields: Any) -> None:
        self._waiting.append((kind, {"uuid": job.id, "timestamp": time.time(), **fields}))
