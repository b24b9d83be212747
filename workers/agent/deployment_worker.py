"""Runs the jobs of one agent: claims them, runs each in a thread of Celery, writes their journals.

What a deployment does is in `workers/agent/rollout.py`, and what an addition of a model in `workers/agent/addition.py`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from celery import Celery

from gateway.cluster.registry import Device
from gateway.deployments.reasons import FailureReason
from gateway.jobs.record import ADDITION, Cause, JobHead
from gateway.jobs.store import JobStore
from gateway.models.catalog import Catalog
from gateway.process.log_context import about
from gateway.settings import Settings
from gateway.store.connection import NOT_NOW
from gateway.store.loop import Loop
from workers.agent.addition import Addition
from workers.agent.deployment_job import DeploymentJob
from workers.agent.job_journal import JobJournal
from workers.agent.rollout import Rollout, Stopped
from workers.agent.rollout_journal import RolloutJournal
from workers.agent.startup_follower import StartupFollower
from workers.journal.claim_loop import ClaimLoop
from workers.journal.held_jobs import break_off
from workers.journal.quarantine import PoisonRule
from workers.journal.writer import Journaler

log = logging.getLogger("headrace.agent")


class DeploymentWorker:
    """Celery's threads call `deploy` and wait; one emitter thread owns the journals and the heartbeat."""

    def __init__(
        self,
        settings: Settings,
        store: JobStore,
        celery: Celery,
        *,
        catalog: Catalog,
        device: Callable[[], Device],
        owner: str,
    ) -> None:
        self.settings = settings
        self.store = store
        self.celery = celery
        self._catalog = catalog
        self._device = device
        self._stopping = threading.Event()
        self._journaler = Journaler(settings=settings, store=store, celery=celery, owner=owner, on_drop=lambda _: None)
        # Deployments share their agent's process, so its death is never blamed on one of them.
        internal = FailureReason.INTERNAL
        rule = PoisonRule("The agent", lost=internal.value, more={"remedy": internal.remedy})
        self._claims = ClaimLoop(self._journaler, rule, keeps_cancelled=True)

    def start(self, beat: Callable[[], None]) -> None:
        """Start the emitter: heartbeats and journals."""
        Loop(lambda: self._emit(beat), name="emitter", over=self._stopping.is_set).start()

    def stop(self) -> None:
        """Give the deployments back to the queue, for the next agent of this device."""
        self._stopping.set()
        self._journaler.flush(everything=True)
        self._journaler.release(self._journaler.held, Cause.GIVEN_BACK)

    def deploy(self, job_id: str) -> None:
        """Claim a job and run it to its end. Does nothing if it is taken, ended or gone."""
        job = self._claims.take(job_id, self._admit)
        work = self._prepared(job) if job else None
        if job is None or work is None:
            return
        try:
            with about(job.job.log_ids):
                work.run()
        except Stopped:
            log.info("job %s goes on elsewhere", job_id, extra=job.job.log_ids)
        except Exception as error:  # the task's edge: no job may stay in progress for ever
            log.exception("job %s", job_id, extra=job.job.log_ids)
            work.withdraw()
            job.fail(FailureReason.INTERNAL.value, f"{type(error).__name__}: {error}")
        self._journaler.touch(job)
        job.finished.wait()

    def _admit(self, waiting: JobHead) -> DeploymentJob | None:
        if self._stopping.is_set():
            return None
        return self._claims.claim(waiting.id, DeploymentJob, model=waiting.runs_on)

    def _prepared(self, job: DeploymentJob) -> Rollout | Addition | None:
        """None if it was given back, or has ended."""
        try:
            events = self.store.journals.read(job.id) if job.job.seq else []
            if job.job.kind == ADDITION:
                log_book = JobJournal(job, touch=self._journaler.touch)
                around = self.settings, self.store, self._catalog, self._device
                return Addition(*around, log_book, events, stopping=self._stopping)
            journal = RolloutJournal(job, events, self.celery, touch=self._journaler.touch)
            follower = StartupFollower(self.store.redis, journal, events)
            return Rollout(self.settings, self.store, journal, follower, stopping=self._stopping)
        except NOT_NOW as error:
            log.warning("job %s waits for Redis: %s", job.id, error, extra=job.job.log_ids)
            self._journaler.release([job], Cause.GIVEN_BACK)
        except Exception as error:  # the task's edge: its record or journal can't be used
            log.exception("job %s: not prepared", job.id, extra=job.job.log_ids)
            self._journaler.drop(job)
            break_off(self.store, job.job, error)
        return None

    def _emit(self, beat: Callable[[], None]) -> None:
        self._journaler.tend(beat)
        time.sleep(0.05 if self._journaler.held else 0.25)
