"""The deployment service: what REST, gRPC and the command line call to load and unload models.

A deployment is a durable job that an agent runs (`workers/agent/rollout.py`): it adds replicas to the desired state,
follows their startup, and rolls back if one fails. Unloading needs no job: a replica that is removed from the desired
state ends by itself.
"""

from __future__ import annotations

import builtins
import logging
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, asdict, dataclass
from typing import Any, cast

from celery import Celery

from gateway.access.api_keys import KeyRecord
from gateway.access.audit import AuditLog
from gateway.cluster.desired import Desired, ReplicaSpec
from gateway.cluster.durations import Durations
from gateway.cluster.registry import Registry, ReplicaStatus
from gateway.deployments import views as deployment_views
from gateway.deployments.planning import Planner
from gateway.deployments.reservations import Reservations
from gateway.errors import Conflict, InvalidRequest, JobNotFound, NotDeployed
from gateway.jobs.control import cancel
from gateway.jobs.record import DEPLOYMENT, OURS, Job, JobState, new_job_id
from gateway.jobs.store import JobStore
from gateway.models.catalog import Catalog, Model
from gateway.process import log_context, trace_context
from gateway.queue.enqueue import enqueue_or_leave_to_keeper
from gateway.queue.names import Priority, device_queue_key
from gateway.settings import Settings
from gateway.store import keys
from schemas.base.times import iso
from schemas.deployments import DeployRequest

log = logging.getLogger(__name__)

#: Deployments whose ids are kept for the list.
MAX_LISTED = 1_000


@dataclass(frozen=True)
class Change:
    """What a deployment is to change of a model."""

    deployment_id: str
    model: Model
    #: The API key that it is charged to.
    key_id: str
    _: KW_ONLY
    #: What else its record says.
    body: Mapping[str, Any]
    #: All replicas that the model had when this was planned.
    present: Sequence[ReplicaSpec]
    wanted: Sequence[ReplicaSpec] = ()
    replaced: Sequence[ReplicaSpec] = ()

    def job(self, expected_s: Mapping[str, float]) -> Job:
        """Its record. The agent of the first device runs it."""
        request = {
            **self.body,
            "wanted": [asdict(one) for one in self.wanted],
            "replaced": [asdict(one) for one in self.replaced],
            "expected_s": expected_s,
        }
        return Job(
            id=self.deployment_id,
            state=JobState.QUEUED,
            kind=DEPLOYMENT,
            model=self.model.id,
            key_id=self.key_id,
            request=request,
            route=device_queue_key(*next(iter([*self.wanted, *self.present])).address),
            background=True,
            request_id=log_context.request_id(),
            traceparent=trace_context.current().traceparent,
            tracestate=trace_context.current().tracestate,
        )


class Deployments:
    """Deploys, scales and unloads models."""

    def __init__(
        self,
        *,
        settings: Settings,
        store: JobStore,
        registry: Registry,
        catalog: Catalog,
        celery: Celery,
        audit: AuditLog | None = None,
    ) -> None:
        self.settings = settings
        self.store = store
        self.registry = registry
        self.catalog = catalog
        self.celery = celery
        self.audit = audit or AuditLog(store.redis, OURS)
        self.desired = Desired(store.redis)
        self.planner = Planner(settings, registry)
        self.durations = Durations(store.redis)
        self.reservations = Reservations(store)

    # -- deploy, scale, unload

    def deploy(self, request: DeployRequest, *, key: KeyRecord) -> dict[str, Any]:
        """Start a deployment: new replicas that replace those that the model has. With `dry_run`, only return the plan.

        Raises:
            PermissionDenied, ModelNotFound, InvalidRequest, NoDevice.
            DoesNotFit: a device lacks the memory; `details` has the plan and what would fit.
            Conflict: another deployment is changing the model, or its table in the catalog is wrong.
        """
        key.require("deploy")
        model = self._deployable(key, request.model_id)
        deployment_id = new_job_id(DEPLOYMENT)
        planned = self.planner.deployment(model, request, deployment_id)
        if request.dry_run:
            alternatives = list(planned.alternatives)
            return {"model_id": model.id, "fits": planned.fits, **planned.to_public(), "alternatives": alternatives}
        planned.require_room()
        present = self.desired.all(model.id)
        body = {**request.given(), **planned.to_public()}
        begun = self.start(
            Change(deployment_id, model, key.id, body=body, present=present, wanted=planned.specs, replaced=present)
        )
        config = {name: value for name, value in request.deployment_config.items() if value is not None}
        asked = {**request.given(), "deployment_config": config, "deployment_id": deployment_id}
        self.audit.note(key, "model.deploy", model.id, **asked)
        return begun

    def scale(self, model_id: str, replicas: int, *, key: KeyRecord) -> dict[str, Any]:
        """Start a deployment that changes the number of a model's replicas, with the options of the present ones.

        Raises: as `deploy`, and NotDeployed.
        """
        key.require("deploy")
        model = self._deployable(key, model_id)
        present, deployment_id = self._deployed(model), new_job_id(DEPLOYMENT)
        body: dict[str, Any] = {"replicas": replicas}
        wanted: Sequence[ReplicaSpec] = ()
        if replicas <= len(present):
            self._healthy_first(present)
        else:
            planned = self.planner.more(model, present, replicas - len(present), deployment_id)
            planned.require_room()
            body["memory_plan"] = planned.to_public()["memory_plan"]
            wanted = planned.specs
        surplus = present[replicas:]
        begun = self.start(
            Change(deployment_id, model, key.id, body=body, present=present, wanted=wanted, replaced=surplus)
        )
        self.audit.note(key, "model.scale", model.id, replicas=replicas, deployment_id=deployment_id)
        return begun

    def replace(self, model_id: str, replaced: Sequence[ReplicaSpec], *, key: KeyRecord) -> str:
        """Start a deployment of as many replicas elsewhere, with the options of these, which end when those serve.
        Returns its id.

        Raises: as `scale`.
        """
        key.require("deploy")
        model = self._deployable(key, model_id)
        deployment_id = new_job_id(DEPLOYMENT)
        present = [*replaced, *(one for one in self.desired.all(model_id) if one not in replaced)]
        planned = self.planner.more(model, present, len(replaced), deployment_id)
        planned.require_room()
        body = {"memory_plan": planned.to_public()["memory_plan"]}
        self.start(
            Change(deployment_id, model, key.id, body=body, present=present, wanted=planned.specs, replaced=replaced)
        )
        return deployment_id

    def unload(self, model_id: str, *, key: KeyRecord) -> dict[str, Any]:
        """Remove a model's replicas: they finish their requests, then end. A running deployment of it is cancelled.

        Raises: PermissionDenied, ModelNotFound, NotDeployed.
        """
        key.require("deploy")
        model = self._local(key, model_id)
        changing = self.reservations.changing(model.id)
        if changing:
            cancel(self.store, changing, reason="unloaded")
        specs = self.desired.all(model.id)
        self.desired.drop(specs)
        nodes = sorted({one.node for one in specs} | {one.node for one in self.registry.replicas(model.id)})
        if not nodes and not changing:
            raise NotDeployed(f"Model {model.id!r} is not deployed, so there is nothing to unload.")
        self.audit.note(key, "model.unload", model.id, nodes=nodes)
        return {"model_id": model.id, "status": ReplicaStatus.UNLOADING, "nodes": nodes}

    # -- read deployments

    def status(self, deployment_id: str, *, key: KeyRecord) -> dict[str, Any]:
        """How a deployment stands. Raises: PermissionDenied, JobNotFound."""
        job = self.get(deployment_id, key=key)
        return deployment_views.detail(job, self.store.journals.read(job.id), root=self.settings.root_path)

    def list(
        self, *, key: KeyRecord, status: str | None = None, model_id: str | None = None, limit: int = 50
    ) -> builtins.list[dict[str, Any]]:
        """The newest deployments first, of one status and model, or of all."""
        key.require("deploy")
        ids = cast("builtins.list[str]", self.store.redis.zrevrange(keys.DEPLOYMENTS, 0, MAX_LISTED))
        jobs = [job for job in self.store.read_many(ids) if job and key.may_use(job.model)]
        found = [job for job in jobs if status in (None, job.word) and model_id in (None, job.model)][:limit]
        root, read = self.settings.root_path, self.store.journals.read
        return [deployment_views.listed(job, () if job.state.ended else read(job.id), root) for job in found]

    def get(self, deployment_id: str, *, key: KeyRecord) -> Job:
        """Raises: PermissionDenied, JobNotFound."""
        key.require("deploy")
        job = self.store.read(deployment_id)
        if job is None or job.kind != DEPLOYMENT or not key.may_use(job.model):
            raise JobNotFound(f"There is no deployment {deployment_id!r}, or its record has expired.")
        return job

    def cancel(self, deployment_id: str, *, key: KeyRecord) -> dict[str, Any]:
        """Cancel a deployment, which is then rolled back. Idempotent. Raises: PermissionDenied, JobNotFound."""
        job = self.get(deployment_id, key=key)
        verdict = cancel(self.store, job, reason="client_request")
        status = verdict if verdict == "cancelling" else JobState(verdict).word
        self.audit.note(key, "deployment.cancel", job.id, model_id=job.model, status=status)
        return {"deployment_id": job.id, "model_id": job.model, "status": status}

    # -- the job

    def start(self, change: Change) -> dict[str, Any]:
        """Write the job record of a deployment, then wake up the agent that runs it.

        Raises: Conflict if another deployment is changing the model, or has changed it meanwhile.
        """
        with self.reservations.taken(change.model.id, change.deployment_id):
            self._require_unchanged(change)
            expected_s = self.durations.expected(change.model.id)
            job = change.job(expected_s)
            self.store.redis.zadd(keys.DEPLOYMENTS, {job.id: self.store.clock.estimated_now_ms()})
            self.store.redis.zremrangebyrank(keys.DEPLOYMENTS, 0, -MAX_LISTED - 1)
            created = self.store.create(job, ttl_ms=int(self.settings.background_ttl_s * 1000))
        enqueue_or_leave_to_keeper(self.celery, job.id, queue_key=job.runs_on, priority=Priority.INTERACTIVE)
        self.store.require(job.id)
        return {
            "deployment_id": job.id,
            "status": JobState.RUNNING.word,
            "model_id": job.model,
            "estimated_time": deployment_views.duration(sum(expected_s.values())),
            "progress_url": deployment_views.links(job.id, self.settings.root_path)["progress_url"],
            "created_at": iso(created.job.created_at),
            **{name: change.body[name] for name in deployment_views.PLANNED if name in change.body},
        }

    def _require_unchanged(self, change: Change) -> None:
        """Raises: Conflict if the model has got more replicas since the deployment was planned."""
        if {one.replica_id for one in self.desired.all(change.model.id)} - {one.replica_id for one in change.present}:
            raise Conflict(
                f"Model {change.model.id!r} was deployed at this moment. Look at the list of deployments.",
                reason="deployment_in_progress",
            )

    # -- helpers

    def _local(self, key: KeyRecord, model_id: str) -> Model:
        model = self.catalog.get_for(key, model_id)
        if not model.local:
            raise InvalidRequest(
                f"Model {model.id!r} is served by {model.provider}; only local models can be deployed.",
                reason="not_a_local_model",
            )
        if model.base:
            raise InvalidRequest(
                f"Model {model.id!r} is an adapter: the replicas of {model.base!r} serve it. Deploy or unload that.",
                reason="is_an_adapter",
            )
        return model

    def _deployable(self, key: KeyRecord, model_id: str) -> Model:
        """A local model as the catalog has it now, not half a second ago. Raises: Conflict if its table is wrong."""
        self.catalog.refresh()
        model = self._local(key, model_id)
        self.catalog.require_right(model.id)
        return model

    def _deployed(self, model: Model) -> builtins.list[ReplicaSpec]:
        present = self.desired.all(model.id)
        if not present:
            raise NotDeployed(f"Model {model.id!r} is not deployed. Deploy it first: POST /models/local/deploy.")
        return present

    def _healthy_first(self, present: builtins.list[ReplicaSpec]) -> None:
        """Sort the replicas to keep to the front: healthy ones first, then the oldest."""
        alive = {one.replica_id: one for one in self.registry.replicas(present[0].model)}

        def rank(one: ReplicaSpec) -> tuple[bool, str]:
            replica = alive.get(one.replica_id)
            return (replica is None or replica.health != "healthy", replica.loaded_at if replica else "")

        present.sort(key=rank)
