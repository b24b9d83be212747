"""The indexes of jobs: the queue of each model, the running jobs, the jobs of each API key.

A job that has not ended is in the queue of its model or among the running jobs at every moment; one that has ended
stays there until it is settled. Knows no journal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import redis

from gateway.jobs.ledger import Ledger
from gateway.jobs.record import Job, JobHead
from gateway.jobs.statistics import count_failure
from gateway.store import keys
from gateway.store.clock import Clock
from gateway.store.codec import dumps
from gateway.store.connection import pipeline
from gateway.store.joined import Command
from gateway.store.scripts import Scripts

#: Added to the creation time in ms for the score of a background job, as in `lib.lua`.
BACKGROUND_SCORE = 10**13
#: A younger index entry without a record may belong to a job that is being created.
YOUNG_MS = 60_000


@dataclass(frozen=True)
class Load:
    """The load that is limited: of one API key the jobs that have not ended, and the bytes of its requests."""

    open: int
    stored: int


class Indexes:
    """All indexes of jobs. Methods with a pipeline only add to it; `Scripts.execute` runs it.

    Every other method may raise NOT_NOW (`gateway/store/connection.py`).
    """

    def __init__(self, client: redis.Redis, scripts: Scripts, ledger: Ledger, clock: Clock) -> None:
        self._redis = client
        self._scripts = scripts
        self._ledger = ledger
        self._clock = clock

    def track(self, job_id: str, model: str, *stale: str) -> str:
        """Move a job to the index where its record says that it belongs: the running jobs, or a model's queue.

        `stale`: models in whose queue it was found though it does not belong there.
        Returns the queue of a worker that is to be told of it, or ''.
        """
        pipe = self._redis.pipeline(transaction=False)
        self.add_track(pipe, job_id, model, *stale)
        return str(self._scripts.execute(pipe)[0][1])

    def track_waiting(self, job_ids: Sequence[str], model: str) -> set[str]:
        """The same for jobs that were found in a model's index. Returns the queues of workers that are to be told."""
        pipe = self._redis.pipeline(transaction=False)
        for job_id in job_ids:
            self.add_track(pipe, job_id, model)
        return {str(wakes) for _, wakes in self._scripts.execute(pipe)} - {""}

    def after_handover(self, job: Job, model: str) -> str:
        """Note that a running job was handed to another model, which counts as a failure of its own.

        Returns the queue of a worker that is to be told of it, or ''.
        """
        pipe = self._redis.pipeline(transaction=False)
        self.add_track(pipe, job.id, model)
        count_failure(pipe, job.runs_on, now_ms=self._clock.estimated_now_ms())
        return str(self._scripts.execute(pipe)[0][1])

    def settle(self, job: JobHead) -> None:
        """Settle a job that has ended, from its record, and remove it."""
        self._scripts.execute_commands([self.settling(job, job.usage)])

    def position(self, job_id: str, model: str) -> int:
        """Position in the model's queue from 1, as jobs are served, or 0 if the job does not wait."""
        return int(self._scripts.run("position", [*keys.of_job(job_id), keys.lines(model)], job_id))

    def positions(self, jobs: Sequence[JobHead]) -> list[int]:
        """The same of several jobs, in one round trip."""
        pipe = self._redis.pipeline(transaction=False)
        for job in jobs:
            self._scripts.add(pipe, "position", [*keys.of_job(job.id), keys.lines(job.runs_on)], job.id)
        return [int(position) for position in self._scripts.execute(pipe)] if jobs else []

    def load(self, job: Job) -> Load:
        """The load including a job that is not created yet."""
        commands = [("SCARD", keys.open_jobs(job.key_id)), ("HGET", keys.stored(job.key_id), "")]
        opened, stored = pipeline(self._redis, commands)
        return Load(int(opened) + 1, int(stored or 0) + len(dumps(job.request).encode()))

    def forget_gone(self, key_id: str, job_ids: Sequence[str]) -> int:
        """Remove jobs whose records are gone from the sets of their API key. Returns how many were not settled."""
        pipe = self._redis.pipeline(transaction=False)
        self._ledger.drop(pipe, key_id, job_ids)
        pipe.zrem(keys.owned(key_id), *job_ids)
        pipe.srem(keys.open_jobs(key_id), *job_ids)
        return int(self._scripts.execute(pipe)[-1])

    def add_track(self, pipe: redis.client.Pipeline, job_id: str, model: str, *stale: str) -> None:
        """As `track`."""
        indexes = [keys.queued(name) for name in (model, *(name for name in stale if name != model))]
        names = [*keys.of_job(job_id), keys.RUNNING, keys.QUEUES, *indexes]
        self._scripts.add(pipe, "track", names, job_id, model, YOUNG_MS)

    def settling(self, job: JobHead, usage: Mapping[str, int]) -> Command:
        """The command that settles a job that has ended, and removes it."""
        counted, tokens, counts = self._ledger.entry(job, usage)
        indexes = (keys.RUNNING, keys.queued(job.runs_on), keys.lines(job.runs_on))
        return self._scripts.call("settle", [*keys.of_job(job.id), *counted, *indexes], job.id, tokens, *counts)
