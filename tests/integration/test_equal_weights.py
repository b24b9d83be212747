"""A begun job is left to a replica that has the weights of its beginning; threads of one worker choose at once."""

from __future__ import annotations

import sys
import threading

import pytest
import redis

from gateway.cluster.registry import Registry, Replica
from gateway.jobs.events import Append
from gateway.jobs.journal_store import AppendVerdict
from gateway.jobs.record import Job, JobState, new_job_id
from gateway.jobs.store import JobStore
from gateway.queue.celery_app import make_celery
from gateway.settings import Settings
from gateway.store.codec import dumps
from workers.replica import equals
from workers.replica.equals import EqualWeights


def test_threads_that_leave_jobs_at_once_do_not_disturb_each_other(
    redis_client: redis.Redis, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(equals, "PAUSE_S", 0)
    monkeypatch.setattr(equals, "REMEMBERED", 1)
    store, registry = JobStore(redis_client), Registry(redis_client)
    registry.heartbeat(Replica("i", "r", "fake", "n", "cpu0", "active", 1, weights="old"), lease_s=60)
    jobs = [begun(store, "old") for _ in range(8)]
    choice = EqualWeights(store=store, registry=registry, celery=make_celery(settings))
    left: list[bool] = []

    def leave(job: Job) -> None:
        left.extend(choice.leave(job, "new") for _ in range(100))

    monkeypatch.setattr(equals, "TIMES", 1000)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=leave, args=(job,)) for job in jobs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert left == [True] * 800


def begun(store: JobStore, weights: str) -> Job:
    """A job that waits again, and was begun with these weights."""
    job = Job(new_job_id("chat"), JobState.QUEUED, "chat", "fake", "key", {"messages": []})
    store.create(job, ttl_ms=60_000)
    assert store.claim(job.id, model="fake", owner="w", claim="c")
    event = dumps({"type": "started", "c": "c", "weights": weights})
    assert store.journals.append([Append(job.id, "c", 1, [event])])[0].verdict is AppendVerdict.OK
    found = store.read(job.id)
    assert found is not None
    return found
