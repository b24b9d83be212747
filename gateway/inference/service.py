"""The inference service: what REST and gRPC call to submit, watch, list and cancel jobs."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from celery import Celery

from gateway.access.api_keys import KeyRecord
from gateway.access.audit import AuditLog
from gateway.access.limits import Limits, Quota
from gateway.cluster.loading import Loads
from gateway.cluster.registry import Replica, ReplicaStatus
from gateway.errors import DoesNotFit, HeadraceError, JobNotFound, StoreUnavailable, Unavailable
from gateway.grammars.checks import Checks
from gateway.inference.estimates import estimate_prompt
from gateway.inference.exact_resume import require_32_bits
from gateway.inference.idempotency import IdempotencyToken
from gateway.inference.routing import ModelStatus, Router
from gateway.inference.waiting import WaitingRoom
from gateway.jobs.control import cancel, cancel_all
from gateway.jobs.job_kind import JobKind, kind_of
from gateway.jobs.kinds import KINDS
from gateway.jobs.ledger import price
from gateway.jobs.record import AGENT_KINDS, OURS, Job, JobState, new_job_id
from gateway.jobs.statistics import count_failure
from gateway.jobs.store import Created, JobStore, Room
from gateway.models.catalog import Catalog, Model
from gateway.models.protocols import unsendable, without
from gateway.process import log_context, trace_context
from gateway.queue.enqueue import wake
from gateway.settings import Settings
from gateway.store.cached import Cached
from gateway.store.connection import NOT_NOW
from gateway.watching.hub import Hub
from gateway.watching.watcher import Watcher

log = logging.getLogger(__name__)

#: Above this share of Redis' `maxmemory` no new job is taken, so that the running ones can end.
MEMORY_LIMIT = 0.8
#: If writing a job takes longer than this, Redis may have been restarted meanwhile.
OUTAGE_S = 0.5


@dataclass(frozen=True)
class Submitted:
    """A new job, and a watcher of all its events (None for a background job)."""

    job: Job
    watcher: Watcher | None
    #: Position in the queue from 1; 0 = does not wait, or unknown.
    position: int = 1
    #: What the key has left; None if it has no limits, or if no new job was made.
    quota: Quota | None = None
    #: An earlier request with the same idempotency key made the job.
    replayed: bool = False

    def headers(self) -> dict[str, str]:
        """The headers of the answer: the job's id, whether it is an earlier one, and what the key has left."""
        replayed = {"Idempotent-Replayed": "true"} if self.replayed else {}
        return {"X-Job-Id": self.job.id, **replayed, **(self.quota.headers() if self.quota else {})}


class Inference:
    """Jobs that run a model."""

    def __init__(
        self,
        *,
        settings: Settings,
        store: JobStore,
        router: Router,
        catalog: Catalog,
        celery: Celery,
        hub: Hub,
        loads: Loads | None = None,
        audit: AuditLog | None = None,
    ) -> None:
        self.audit = audit or AuditLog(store.redis, OURS)
        self.settings = settings
        self.store = store
        self.router = router
        self.catalog = catalog
        self.celery = celery
        self.hub = hub
        self.limits = Limits(store.redis, store.scripts)
        self.waiting = WaitingRoom(settings, store, router, loads)
        self.forms = Checks()
        self._memory: Cached[dict[str, Any]] = Cached()

    def submit(
        self,
        kind: str,
        model_id: str,
        request: Mapping[str, Any],
        *,
        key: KeyRecord,
        background: bool,
        idempotency_key: str | None = None,
        timeout_s: float | None = None,
    ) -> Submitted:
        """Check the request, write the job record, subscribe, and wake up a worker; or attach to the job of an earlier
        request with the same idempotency key.

        `timeout_s`: within which the job must begin, if the request does not say it.

        Raises:
            ModelNotFound, InvalidRequest, PermissionDenied, ModelNotReady, DoesNotFit, UpstreamUnavailable, QueueFull,
            RateLimited, StoreUnavailable.
        """
        key.require("inference")
        model = self.catalog.get_for(key, model_id)
        what = kind_of(kind)
        model.require(what.capability)
        token = None
        if idempotency_key is not None:
            token = IdempotencyToken.for_request(
                idempotency_key, key_id=key.id, kind=kind, model=model.id, request=request
            )
            if earlier := self._earlier(token):
                return self._attach(earlier, background=background)
        full = what.complete(model, request)
        if model.local or any(other.local for other in self.router.fallbacks(model, what.capability)):
            self.forms.require(full, asker=key.id)
        runs_on = self._route(model, what, request)
        if runs_on is not model:  # the defaults of one may be nothing that the other can be told
            full = without(full, [name for name in unsendable(runs_on, full) if name not in request])
        active = [one.effective for one in self.replicas(runs_on) if one.status == ReplicaStatus.ACTIVE]
        require_32_bits(runs_on.id, full, active)
        self._require_memory()
        tokens, timeout_s = what.estimate(model, full), full.get("timeout") or timeout_s
        job = Job(
            id=token.job_id(kind) if token else new_job_id(kind),
            state=JobState.QUEUED,
            kind=kind,
            model=model.id,
            key_id=key.id,
            request=full,
            route=runs_on.base or ("" if runs_on is model else runs_on.id),
            adapter=runs_on.id if runs_on.base else "",
            background=background or full.get("priority") == "background",
            price=price(model.pricing),
            fingerprint=token.fingerprint if token else "",
            reserved=tokens if key.tokens_per_minute else 0,
            prompt_cost=math.ceil(estimate_prompt(full) / key.weight),
            most_tokens=what.most(model, full),
            weight=key.weight,
            slots=what.slots(full),
            deadline=self.store.clock.estimated_now_ms() + int(1000 * timeout_s) if timeout_s else 0,
            request_id=log_context.request_id(),
            traceparent=trace_context.current().traceparent,
            tracestate=trace_context.current().tracestate,
        )
        if token:  # its job is never discarded, since another request may have attached to it
            self.waiting.require_share(self.store.indexes.load(job))
        quota = self.limits.reserve(key, job.id, tokens) if key.limited else None
        return replace(self._create(job, timeout_s, background=background, token=token), quota=quota)

    def _create(
        self, job: Job, timeout_s: float | None, *, background: bool, token: IdempotencyToken | None
    ) -> Submitted:
        """Create the job, or attach if another call has created it meanwhile."""
        began = time.monotonic()
        with contextlib.ExitStack() as undo:
            watcher = None
            if not token:
                undo.callback(self._discard, job)
            if not background and not token:
                self.hub.start()
                watcher = self.hub.watch_new(job.id)
                undo.callback(self.hub.forget, watcher)
            room = self.waiting.room(job, timeout_s)
            created = self._write(job, room, background=background, watched=watcher is not None)
            if created.retry_ms:
                if token:
                    undo.callback(self._discard, job)
                self.waiting.refuse(job, created, room, timeout_s)
            if token:
                token.check(created.job)
            else:
                self.waiting.require_share(created.load)
            self._announce(created)
            self.router.bring(job.runs_on, asked_by=job.key_id)
            if time.monotonic() > began + OUTAGE_S:
                self.store.require(job.id)
            undo.pop_all()
        if token and not background:
            watcher = self.hub.watch(job.id)
        return Submitted(created.job, watcher, created.position, replayed=not created.new and token is not None)

    def _announce(self, created: Created) -> None:
        """Tell who could run the job. Workers that have something to do look for more when they have done it."""
        if created.wakes:
            wake(self.celery, created.wakes)

    def _write(self, job: Job, room: Room, *, background: bool, watched: bool) -> Created:
        ttl_s = self.settings.background_ttl_s if background else self.settings.job_ttl_s
        attended_ms = -1 if background or job.detached else self.hub.attended_ms
        hub_id = self.hub.id if watched else ""
        return self.store.create(job, ttl_ms=int(ttl_s * 1000), hub_id=hub_id, attended_ms=attended_ms, room=room)

    def _discard(self, job: Job) -> None:
        """Remove a job that no client was told of. If Redis can't do it now, the keeper finds what is left of it."""
        try:
            self.store.discard(job)
        except NOT_NOW as error:
            log.warning("job %s: not discarded (%s); it is left to the keeper", job.id, error, extra=job.log_ids)

    def _earlier(self, token: IdempotencyToken) -> Job | None:
        """The job of an earlier request with this idempotency key. Raises: IdempotencyMismatch."""
        jobs = self.store.read_many([token.job_id(kind) for kind in KINDS if kind not in AGENT_KINDS])
        job = next(filter(None, jobs), None)
        if job:
            token.check(job)
        return job

    def _attach(self, job: Job, *, background: bool) -> Submitted:
        watcher = None if background else self.hub.watch(job.id)
        position = self.position(job) if job.state is JobState.QUEUED else 0
        return Submitted(job, watcher, position, replayed=True)

    def get(self, job_id: str, *, key: KeyRecord) -> Job:
        """Raises: JobNotFound, also for a job of another key (unless this one is an admin's); StoreUnavailable."""
        job = self.store.read(job_id)
        if job is None and self.hub.settling():
            raise StoreUnavailable(
                f"Redis came back a moment ago, and job {job_id!r} is not there, or not yet there again. Try again.",
                retry_after_s=2,
            )
        if job is None or (job.key_id != key.id and "admin" not in key.scopes):
            raise JobNotFound(f"There is no job {job_id!r}, or its record has expired.")
        return job

    def cancel(self, job_id: str, *, key: KeyRecord) -> str:
        """Cancel a job. Idempotent. Returns `cancelling`, or the state in which the job has ended."""
        job = self.get(job_id, key=key)
        verdict = cancel(self.store, job, reason="client_request")
        if job.key_id != key.id and not job.state.ended:
            self.audit.note(key, "job.cancel", job.id, key_id=job.key_id, status=verdict)
        return verdict

    def cancel_all(self, key_id: str) -> int:
        """Cancel all queued and running jobs of a revoked key. Returns how many there were."""
        return cancel_all(self.store, key_id)

    def position(self, job: Job) -> int:
        """Position in the model's queue from 1, or 0 if the job does not wait."""
        return self.store.indexes.position(job.id, job.runs_on)

    def model_status(self, model: Model) -> ModelStatus:
        """See `Router.status`."""
        return self.router.status(model)

    def replicas(self, model: Model) -> Sequence[Replica]:
        """The living replicas of a model, at most half a second old."""
        return self.router.replicas(model)

    def _route(self, model: Model, what: JobKind, request: Mapping[str, Any]) -> Model:
        """The model that takes the request. Raises: ModelNotReady, DoesNotFit, UpstreamUnavailable."""

        def refusal(other: Model) -> str:
            try:
                what.complete(other, request)
            except HeadraceError as error:
                log.info("%s can't take a request for %s: %s", other.id, model.id, error.message)
                return error.message
            return ""

        try:
            return self.router.route(model, what.capability, refusal)
        except (Unavailable, DoesNotFit):
            self._count_refusal(model)
            raise

    def _count_refusal(self, model: Model) -> None:
        pipe = self.store.redis.pipeline(transaction=False)
        count_failure(pipe, model.id, now_ms=self.store.clock.estimated_now_ms())
        pipe.execute(raise_on_error=False)

    def _require_memory(self) -> None:
        memory = self._memory.get(lambda: self.store.redis.info("memory"))
        if memory["maxmemory"] and memory["used_memory"] > MEMORY_LIMIT * memory["maxmemory"]:
            used, limit = (f"{memory[name] / 2**20:.0f} MiB" for name in ("used_memory", "maxmemory"))
            raise StoreUnavailable(
                f"Redis is nearly full ({used} of {limit}), so no new job is taken. Those that run go on; it has room "
                "again when what is kept has expired.",
                retry_after_s=5,
            )
