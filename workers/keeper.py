"""The keeper, `python -m workers.keeper`: finds jobs that lost their worker, hint or client, and puts it right.

Two keepers do no harm: every change goes through a script that checks the claim.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Iterable
from typing import cast

from celery import Celery

from gateway import keys
from gateway.catalog import Catalog, load_catalog
from gateway.compaction import compact_ended
from gateway.desired import ASLEEP, UP, Desired
from gateway.failures import FailureReason
from gateway.inference import cancel, fail
from gateway.job import JobHead, JobState
from gateway.jobs import JobStore
from gateway.limits import Limits
from gateway.queues import Priority, device_place, lists, make_celery, queue_of, send_hint
from gateway.redis import NOT_NOW, connect, pipeline, run_id
from gateway.registry import Registry
from gateway.settings import Settings
from gateway.tidy import Tidy
from gateway.usage import DEPLOYMENT

log = logging.getLogger("headrace.keeper")

#: Pause between two rounds; a heartbeat must be missing in two of them.
ROUND_S = 1.0
#: A cancelled job whose worker is silent for so long is ended by the keeper.
CANCEL_S = 5.0
#: A queued job may wait so long before its hint counts as lost, if hints are fewer than jobs.
HINT_S = 2.0
#: A model without a replica, alive or to come, keeps those who wait for so many leases.
DESERTED_LEASES = 2
#: The journal of a job shrinks so long after its end. Until then the drain rate counts it, and late clients resume.
COMPACT_MS = 60_000


class Keeper:
    """One round looks at every running and every queued job."""

    def __init__(
        self, *, settings: Settings, store: JobStore, registry: Registry, celery: Celery, catalog: Catalog
    ) -> None:
        self.settings = settings
        self.catalog = catalog
        self.desired = Desired(store.redis)
        self.store = store
        self.registry = registry
        self.celery = celery
        self.limits = Limits(store.redis, store.scripts)
        self.tidy = Tidy(store)
        self._missing: set[str] = set()
        #: Since when nobody is there, or to come, that could serve a place.
        self._deserted: dict[str, float] = {}
        self._hinted: dict[str, tuple[int, int]] = {}
        self._trusted_since = 0.0
        self._run_id = ""

    def run(self, stop: threading.Event) -> None:
        """Rounds until `stop`. Recovery waits until Redis was reachable without a break for one lease."""
        last = time.monotonic()
        while not stop.is_set():
            try:
                if time.monotonic() - last > 3 * ROUND_S or self._redis_changed():
                    self._distrust()
                last = time.monotonic()
                self.round()
            except NOT_NOW as error:
                log.warning("Redis does not answer (%s); nothing is recovered until it did for a lease", error)
                self._distrust()
            stop.wait(ROUND_S)

    def round(self) -> None:
        """One look at everything."""
        self.store.redis.set(keys.KEEPER, "1", px=int(self.settings.lease_s * 1000))
        now = self.store.now_ms()
        running = self.store.heads(cast("list[str]", self.store.redis.zrange(keys.RUNNING, 0, -1)))
        self._tidy_running(running)
        alive = self.registry.alive(job.owner for job in running.values() if job and job.owner)
        suspects: set[str] = set()
        for job in running.values():
            if job and job.state is JobState.RUNNING:
                self._look_at_running(job, now, job.owner in alive, suspects)
        self._missing = suspects
        self.limits.give_back_lapsed()
        self.tidy.step()
        for model in cast("set[str]", self.store.redis.smembers(keys.QUEUES)):
            self._look_at_queue(model, now)
            compact_ended(self.store, model, before_ms=now - COMPACT_MS)
        self._hinted = {i: hinted for i, hinted in self._hinted.items() if hinted[0] > now - 600_000}

    # -- running jobs

    def _look_at_running(self, job: JobHead, now: int, owner_alive: bool, suspects: set[str]) -> None:
        silent_ms = now - job.progress_at
        if 0 <= job.attended_until < now and not job.cancel:
            log.info("job %s: its client is gone, cancelling", job.id)
            self._cancel(job, reason="client_gone")
        elif job.cancel and not owner_alive and silent_ms > CANCEL_S * 1000:
            self._cancel(job, reason="client_request", take_claim=job.claim)
        elif not owner_alive:
            suspects.add(job.claim)
            if job.claim in self._missing and self._trusted():
                self._recover(job, f"worker {job.owner} is dead")
        elif silent_ms > self.settings.stall_s * 1000:
            self._recover(job, f"no progress for {silent_ms / 1000:.0f} s")

    def _recover(self, job: JobHead, why: str) -> None:
        if self.store.release(job, crashed=True):
            log.warning("job %s: %s, back to the queue", job.id, why)
            self._hint(job, Priority.RECOVERED)

    def _tidy_running(self, jobs: dict[str, JobHead | None]) -> None:
        self._tidy(keys.RUNNING, {i: job for i, job in jobs.items() if job is None or job.state.ended})

    def _tidy(self, index: str, stale: dict[str, JobHead | None]) -> None:
        """Take jobs out of an index. Who ended them may have died before it settled them."""
        self.store.settle(job for job in stale.values() if job and job.state.ended)
        if stale:
            self.store.redis.zrem(index, *stale)

    # -- queued jobs

    def _look_at_queue(self, model: str, now: int) -> None:
        jobs = self.store.heads(cast("list[str]", self.store.redis.zrange(keys.queued(model), 0, -1)))
        self._tidy(keys.queued(model), {i: job for i, job in jobs.items() if self._not_waiting(job)})
        waiting = [job for job in jobs.values() if job and job.state is JobState.QUEUED]
        if not waiting:
            return
        if self._hopeless(model):
            self._give_up(waiting, model)
            return
        hints = sum(pipeline(self.store.redis, [("LLEN", name) for name in lists(queue_of(model))]))
        lost = len(waiting) - hints
        for job in waiting:
            age_ms = now - job.queued_at
            if 0 <= job.attended_until < now:
                log.info("job %s: its client is gone, cancelled before it began", job.id)
                self._cancel(job, reason="client_gone")
            elif now - job.created_at > self.settings.queue_timeout_s * 1000 and not job.seq:
                message = f"No worker took the job within {self.settings.queue_timeout_s:.0f} s."
                self._fail(job, reason="queue_timeout", message=message)
            elif lost > 0 and age_ms > HINT_S * 1000 and self._hint_due(job, now):
                lost -= 1
                log.warning("job %s: its hint was lost, sent again", job.id)
                self._hint(job, Priority.RECOVERED)
            elif job.background:
                self._age(job, age_ms, now)

    def _hopeless(self, place: str) -> bool:
        """Whether nobody serves a place, for so long that nobody will. A model that sleeps is woken."""
        if place.startswith("@"):
            served = place in {device_place(*device.place) for device in self.registry.devices()}
            patience_s = self.settings.node_gone_s
        else:
            served, patience_s = self._served(place), self.settings.lease_s * DESERTED_LEASES
        if served or not self._trusted():
            self._deserted.pop(place, None)
            return False
        return time.monotonic() - self._deserted.setdefault(place, time.monotonic()) > patience_s

    def _served(self, model_id: str) -> bool:
        """Whether a model has a replica, or will have one. Only local models are known to have none."""
        if not any(model.local and model.id == model_id for model in self.catalog):
            return True
        if self.registry.replicas(model_id):
            return True
        states = {wanted.state for wanted in self.desired.all(model_id)}
        if ASLEEP in states and UP not in states:
            self.desired.wake(model_id)
        return bool(states & {UP, ASLEEP})

    def _give_up(self, jobs: Iterable[JobHead], place: str) -> None:
        for job in jobs:
            if job.kind == DEPLOYMENT:
                gone = FailureReason.NODE_GONE
                error = {"reason": gone.value, "message": f"The agent of {place[1:]} is gone.", "remedy": gone.remedy}
            else:
                message = f"Model {place!r} was unloaded, or its replicas have failed."
                error = {"reason": "model_not_ready", "message": message}
            log.warning("job %s: %s", job.id, error["message"])
            self._fail(job, **error)

    def _hint_due(self, job: JobHead, now: int) -> bool:
        last, _ = self._hinted.get(job.id, (0, 0))
        if now - last < 2 * HINT_S * 1000:
            return False
        self._hinted[job.id] = (now, self._hinted.get(job.id, (0, 0))[1])
        return True

    def _age(self, job: JobHead, age_ms: int, now: int) -> None:
        """A background job gets a second hint at a higher step, then one among the interactive ones."""
        step = min(2, int(age_ms / (self.settings.ageing_s * 1000)))
        if step > self._hinted.get(job.id, (0, 0))[1]:
            self._hinted[job.id] = (now, step)
            self._hint(job, (Priority.AGED, Priority.INTERACTIVE)[step - 1])

    # -- helpers

    def _not_waiting(self, job: JobHead | None) -> bool:
        return job is None or job.state is not JobState.QUEUED

    def _hint(self, job: JobHead, priority: Priority) -> None:
        send_hint(self.celery, job.id, place=job.runs_on, priority=priority)

    def _cancel(self, head: JobHead, *, reason: str, take_claim: str = "") -> None:
        if job := self.store.read(head.id):
            cancel(self.store, job, reason=reason, take_claim=take_claim)

    def _fail(self, head: JobHead, *, reason: str, message: str, **details: str) -> None:
        if job := self.store.read(head.id):
            fail(self.store, job, reason=reason, message=message, **details)

    def _redis_changed(self) -> bool:
        before, self._run_id = self._run_id, run_id(self.store.redis)
        return before != self._run_id

    def _distrust(self) -> None:
        self._trusted_since = time.monotonic()
        self._missing = set()

    def _trusted(self) -> bool:
        return time.monotonic() - self._trusted_since > self.settings.lease_s


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    settings = Settings.load()
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    client = connect(settings)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    keeper = Keeper(
        settings=settings,
        store=JobStore(client),
        registry=Registry(client),
        celery=make_celery(settings),
        catalog=load_catalog(settings),
    )
    keeper.run(stop)


if __name__ == "__main__":
    main()
