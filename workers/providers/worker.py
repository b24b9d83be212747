"""Runs the jobs of remote models: claims, calls, retries and fallbacks.

Each job has a thread, which claims it and waits for its end (`puller.py`); one loop thread reads all providers' streams
(`provider_calls.py`); one emitter thread owns every run, the journal and the heartbeat, as in
`workers/replica/worker.py`.
"""

from __future__ import annotations

import logging
import os
import secrets
import subprocess
import threading
import time

from celery import Celery

from gateway.cluster.registry import ProviderWorker, Registry
from gateway.errors import HeadraceError, InvalidRequest
from gateway.inference.routing import Router
from gateway.jobs.record import Cause, Job, JobHead
from gateway.jobs.recovery import ALONE
from gateway.jobs.store import JobStore
from gateway.models.catalog import Catalog, Model
from gateway.models.protocols import refusals
from gateway.process.log_context import about
from gateway.process.start import module_command
from gateway.queue.names import provider_queue
from gateway.scheduling.lines import Lines
from gateway.settings import Settings
from gateway.store.loop import Loop
from workers.journal.claim_loop import ClaimLoop
from workers.journal.claimed_job import ClaimedJob
from workers.journal.pace import flush_interval_of
from workers.journal.quarantine import QUARANTINE_CRASHES, PoisonRule, Turnstile
from workers.journal.writer import Journaler
from workers.providers.call_driver import CallDriver
from workers.providers.fallbacks import Fallbacks
from workers.providers.mailbox import Mailbox
from workers.providers.provider_calls import Calls
from workers.providers.puller import Puller
from workers.providers.run import ProviderRun
from workers.providers.secrets import redacted
from workers.providers.transcript import Transcript

log = logging.getLogger(__name__)

#: Quarantined jobs that run at once in processes of their own, and how often each is checked.
MAX_APART, APART_LOOK_S = 4, 0.2


class RemoteWorker:
    """Serves all remote models whose provider's key this process has."""

    def __init__(
        self,
        *,
        settings: Settings,
        catalog: Catalog,
        store: JobStore,
        registry: Registry,
        router: Router,
        celery: Celery,
        alone: bool = False,
    ) -> None:
        self.settings = settings
        #: This process runs only one quarantined job.
        self.alone = alone
        self.catalog = catalog
        self.store = store
        self.registry = registry
        self.router = router
        self.incarnation = f"provider.{settings.node}{ALONE if alone else ''}:{secrets.token_hex(4)}"
        self._calls = Calls(self._clean)
        self._journaler = Journaler(
            settings=settings,
            store=store,
            celery=celery,
            owner=self.incarnation,
            on_drop=self._drop,
            pace=flush_interval_of(settings),
        )
        self.task_events = self._journaler.task_events
        self._claims = ClaimLoop(self._journaler, PoisonRule("The provider worker", settings.max_attempts))
        self._stopping = threading.Event()
        self._quarantine = Turnstile(MAX_APART, self.generate)
        self._mailbox = Mailbox(self._journaler)
        self._driver = CallDriver(self._calls, router, Fallbacks(catalog, router, self._calls), self._mailbox)
        self._puller = Puller(
            queue=provider_queue(settings.node),
            lines=Lines(store.redis, store.scripts),
            threads=settings.provider_concurrency,
            idle_s=settings.idle_s,
            share=settings.background_share,
            models=lambda: [model.id for model in self.models()],
            run=self.run,
            takes_quarantined=lambda: self._quarantine.is_free,
        )
        self._emitter = Loop(self._emit, name="emitter", over=self._is_over)

    # -- called by the process and by Celery's threads

    @property
    def queue(self) -> str:
        """The queue of the messages that wake it."""
        return self._puller.queue

    def start(self) -> None:
        """Load the SDKs of the providers, so that no request waits for that, and start the heartbeat."""
        for name in {model.provider for model in self.models()}:
            try:
                self._calls.upstream(self.catalog.providers[name])
            except HeadraceError as error:
                log.error("provider %s: %s", name, error.message)
        self._emitter.start()
        if not self.alone:
            self._puller.start()

    def generate(self, job_id: str = "") -> None:
        """There is work, whatever job the message was sent for. Returns at once."""
        self._puller.wake()

    def run(self, job_id: str) -> None:
        """Claim a job and run it to its end, or until it is given back.

        Does nothing if the job is taken, ended or gone.
        """
        run = self._claims.take(job_id, self._admit)
        if run is not None:
            try:
                with about(run.job.log_ids):
                    self._driver.drive(run)
            except Exception as error:  # the edge of this process: the client must get an error
                log.exception("job %s", job_id, extra=run.job.log_ids)
                message = f"The provider worker failed: {type(error).__name__}."
                self._mailbox.post(lambda: run.fail("upstream_error", message, provider=run.provider.name), run)
            run.finished.wait()

    def models(self) -> list[Model]:
        """The remote models whose provider's key this process has."""
        providers = self.catalog.providers
        return [model for model in self.catalog if not model.local and providers[model.provider].has_credentials]

    def stop(self, *, grace_s: float) -> None:
        """Let running jobs end for `grace_s`, then give the rest back to the queue."""
        self._stopping.set()
        if not self.alone:
            self._puller.close()
        deadline = time.monotonic() + grace_s
        while self._journaler.held and time.monotonic() < deadline:
            time.sleep(0.05)
        self._journaler.release(self._journaler.held, Cause.GIVEN_BACK)
        self._emitter.join(2)
        self._calls.close()
        self.registry.deregister(self.incarnation)

    # -- one job

    def _admit(self, waiting: JobHead) -> ProviderRun | None:
        """Claim a job, unless it is quarantined. None if it does not run here."""
        if self._stopping.is_set():
            return None
        if QUARANTINE_CRASHES <= waiting.crashes < self.settings.max_attempts and not self.alone:
            with about(waiting.log_ids):
                self._run_apart(waiting.id)
            return None
        model = next((model for model in self.models() if model.id == waiting.runs_on), None)
        if model is None:
            log.warning("job %s: %s is not served here", waiting.id, waiting.runs_on, extra=waiting.log_ids)
            return None
        return self._claims.claim(waiting.id, lambda job: self._prepare(job, model), model=model.id)

    def _prepare(self, job: Job, model: Model) -> ProviderRun:
        """Read its journal. Raises: HeadraceError if the job can't run."""
        transcript = Transcript(job, self.store.journals.read(job.id) if job.seq else ())
        provider = self.catalog.providers[model.provider]
        self._calls.upstream(provider)
        if found := refusals(model, job.request):
            raise InvalidRequest.of(found)
        return ProviderRun(job, model, provider, transcript)

    def _run_apart(self, job_id: str) -> None:
        """Run a quarantined job in a process of its own, when it is its turn."""
        with self._quarantine.turn(job_id) as mine:
            if not mine:
                return
            log.warning("job %s: workers have died of it, or beside it; it runs in a process of its own", job_id)
            process = subprocess.Popen(module_command("workers.providers", job_id), stdin=subprocess.DEVNULL)
            while process.poll() is None:
                if self._stopping.wait(APART_LOOK_S):
                    process.terminate()
                    process.wait()

    def _clean(self, text: str) -> str:
        return redacted(text, self.catalog.providers.values())

    # -- the emitter thread

    def _is_over(self) -> bool:
        return self._stopping.is_set() and not self._journaler.held

    def _emit(self) -> None:
        self._mailbox.act(timeout_s=self._journaler.waits_s)
        self._journaler.tend(self._beat)

    def _drop(self, job: ClaimedJob) -> None:
        assert isinstance(job, ProviderRun)
        job.abort()
        self._puller.count(job)

    def _beat(self) -> None:
        held = self._journaler.held
        for job in held:
            assert isinstance(job, ProviderRun)
            self._puller.count(job)
        record = ProviderWorker(
            incarnation=self.incarnation,
            node=self.settings.node,
            pid=os.getpid(),
            running=len(held),
            pulls=True,
            credentials=tuple(name for name, p in self.catalog.providers.items() if p.has_credentials),
        )
        self.registry.beat_provider(record, lease_s=self.settings.lease_s)
        # Every call and every wait has a time-out of its own, so a silent job has not stalled.
        self.store.progress(job.job for job in held)
