"""The deployment service: what REST, gRPC and the command line call to bring models onto devices and take them off.

A deployment is a durable job that an agent carries out (`workers/deployment.py`): it makes replicas part of the desired
state, follows them on their way up, and takes back what it did if one fails. Unloading needs no job: what is desired
no more ends by itself.
"""

from __future__ import annotations

import builtins
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

import kombu.exceptions
import redis
from celery import Celery

from gateway import deployment_views, keys
from gateway.catalog import Catalog, Model
from gateway.credentials import KeyRecord
from gateway.desired import UP, Desired, Wanted, replica_id
from gateway.durations import Durations
from gateway.engine_table import QUANTIZATIONS, SPECS, resolve
from gateway.errors import Conflict, DoesNotFit, InvalidRequest, JobNotFound, NotDeployed
from gateway.footprints import Footprints
from gateway.inference import cancel
from gateway.jobs import Job, JobState, JobStore, new_job_id
from gateway.memory import Footprint, Load, MemoryPlan, alternatives, plan
from gateway.placement import place
from gateway.queues import Priority, device_place, send_hint
from gateway.redis import CONNECTION_ERRORS
from gateway.registry import Device, Registry
from gateway.settings import Settings
from gateway.usage import DEPLOYMENT
from gateway.watch import Hub, Watcher
from schemas.deployments import DeployRequest

log = logging.getLogger(__name__)

#: Deployments whose ids are kept for the list.
MAX_LISTED = 1_000


@dataclass(frozen=True)
class Planned:
    """What a deployment would do: its replicas, what each takes of its device, and what is not as it was preferred."""

    wanted: Sequence[Wanted]
    #: By `node.device`, for all replicas that go there; None where the device has not said how big the model is.
    plans: Mapping[str, MemoryPlan | None]
    alternatives: Sequence[Mapping[str, Any]]
    effective: Mapping[str, Any]
    warnings: Sequence[str]

    @property
    def fits(self) -> bool:
        """Whether every device has room, as far as it is known."""
        return all(found is None or found.fits for found in self.plans.values())

    def shown(self) -> dict[str, Any]:
        """As clients see it."""
        return {
            "memory_plan": {name: found.shown() if found else None for name, found in self.plans.items()},
            "effective_config": dict(self.effective),
            "warnings": list(self.warnings),
        }


class Deployments:
    """Brings models onto devices."""

    def __init__(
        self, *, settings: Settings, store: JobStore, registry: Registry, catalog: Catalog, celery: Celery, hub: Hub
    ) -> None:
        self.settings = settings
        self.store = store
        self.registry = registry
        self.catalog = catalog
        self.celery = celery
        self.hub = hub
        self.desired = Desired(store.redis)
        self.footprints = Footprints(store.redis)
        self.durations = Durations(store.redis)

    # -- deploy, scale, unload

    def deploy(self, request: DeployRequest, *, key: KeyRecord) -> dict[str, Any]:
        """Start a deployment: new replicas, which take the place of those that the model has. Or, with `dry_run`, say
        what it would take.

        Raises:
            PermissionDenied, ModelNotFound, InvalidRequest, NoDevice.
            DoesNotFit: a device lacks the memory; `details` has the plan and what would fit.
            Conflict: another deployment is changing the model.
        """
        key.require("deploy")
        model = self._local(request.model_id)
        deployment_id = new_job_id(DEPLOYMENT)
        planned = self._plan(model, request, deployment_id)
        if request.dry_run:
            return {"model_id": model.id, "fits": planned.fits, **planned.shown(), **self._alternatives(planned)}
        if not planned.fits:
            raise self._does_not_fit(model, planned)
        replaced = self.desired.all(model.id)
        body = {**request.given(), **planned.shown()}
        return self._start(deployment_id, model, body, planned.wanted, replaced, at=planned.wanted[0], key=key)

    def scale(self, model_id: str, replicas: int, *, key: KeyRecord) -> dict[str, Any]:
        """Start a deployment that gives a model so many replicas, with the options of those that it has.

        Raises: as `deploy`, and NotDeployed.
        """
        key.require("deploy")
        model = self._local(model_id)
        present = self._deployed(model)
        if replicas <= len(present):
            self._healthy_first(present)
            body = {"replicas": replicas}
            return self._start(new_job_id(DEPLOYMENT), model, body, [], present[replicas:], at=present[0], key=key)
        deployment_id = new_job_id(DEPLOYMENT)
        like = present[0]
        busy = Counter(one.place for one in present)
        devices = [device for device in self.registry.devices() if model.engine in device.engines]
        devices.sort(key=lambda one: (busy[one.node, one.device], -one.memory_free))
        targets = [device.name for device in devices]
        chosen = place(devices, targets, engine=model.engine, replicas=replicas - len(present))
        wanted = [self._wanted(like, deployment_id, device, i) for i, device in enumerate(chosen)]
        plans, footprint = self._memory(model, wanted, chosen)
        planned = Planned(wanted, plans, self._other_loads(model, wanted, plans, footprint), {}, [])
        if not planned.fits:
            raise self._does_not_fit(model, planned)
        body = {"replicas": replicas, "memory_plan": planned.shown()["memory_plan"]}
        return self._start(deployment_id, model, body, wanted, [], at=wanted[0], key=key)

    def unload(self, model_id: str, *, key: KeyRecord) -> dict[str, Any]:
        """Want a model's replicas no more: they end their requests, then themselves. A deployment of it is cancelled.

        Raises: PermissionDenied, ModelNotFound, NotDeployed.
        """
        key.require("deploy")
        model = self._local(model_id)
        changing = self._changing(model.id)
        if changing:
            cancel(self.store, changing, reason="unloaded")
        wanted = self.desired.all(model.id)
        self.desired.drop(wanted)
        nodes = sorted({one.node for one in wanted} | {one.node for one in self.registry.replicas(model.id)})
        if not nodes and not changing:
            raise NotDeployed(f"Model {model.id!r} is not deployed, so there is nothing to unload.")
        return {"model_id": model.id, "status": "unloading", "nodes": nodes}

    # -- look at deployments

    def status(self, deployment_id: str, *, key: KeyRecord) -> dict[str, Any]:
        """How a deployment stands. Raises: PermissionDenied, JobNotFound."""
        job = self.get(deployment_id, key=key)
        return deployment_views.detail(job, self.store.journal(job.id), self.durations.expected(job.model))

    def list(
        self, *, key: KeyRecord, status: str | None = None, model_id: str | None = None, limit: int = 50
    ) -> builtins.list[dict[str, Any]]:
        """The newest deployments first, of one status and model, or of all."""
        key.require("deploy")
        ids = cast("builtins.list[str]", self.store.redis.zrevrange(keys.DEPLOYMENTS, 0, MAX_LISTED))
        found = [deployment_views.summary(job) for job in self.store.read_many(ids) if job]
        shown = [one for one in found if status in (None, one["status"]) and model_id in (None, one["model_id"])]
        return shown[:limit]

    def get(self, deployment_id: str, *, key: KeyRecord) -> Job:
        """Raises: PermissionDenied, JobNotFound."""
        key.require("deploy")
        job = self.store.read(deployment_id)
        if job is None or job.kind != DEPLOYMENT:
            raise JobNotFound(f"There is no deployment {deployment_id!r}, or its record has expired.")
        return job

    def cancel(self, deployment_id: str, *, key: KeyRecord) -> dict[str, Any]:
        """Cancel a deployment: what it did is undone. Once more does no harm. Raises: PermissionDenied, JobNotFound."""
        job = self.get(deployment_id, key=key)
        verdict = cancel(self.store, job, reason="client_request")
        status = verdict if verdict == "cancelling" else JobState(verdict).word
        return {"deployment_id": job.id, "model_id": job.model, "status": status}

    def watch(self, deployment_id: str, *, key: KeyRecord, after: int = 0, claim: str = "") -> Watcher:
        """Follow a deployment. Raises: PermissionDenied, JobNotFound."""
        return self.hub.watch(self.get(deployment_id, key=key).id, after=after, claim=claim)

    # -- what it would do

    def _plan(self, model: Model, request: DeployRequest, deployment_id: str) -> Planned:
        spec = SPECS[model.engine]
        options = request.options()
        quantization = request.quantization or (model.quantization if model.quantization in QUANTIZATIONS else "none")
        devices = place(
            self.registry.devices(), request.target_nodes, engine=model.engine, replicas=request.replicas or None
        )
        first = devices[0]
        footprint = self.footprints.get(first, model.id)
        source_format = footprint.format if footprint else next(iter(spec.quantizations))
        effective = resolve(
            spec,
            format=source_format,
            device=first.device,
            quantization=quantization,
            tensor_parallel_size=options["tensor_parallel_size"],
            cpu_offload=options["cpu_offload"],
            use_flash_attention=options["use_flash_attention"],
            use_kv_cache=options["use_kv_cache"],
        )
        like = Wanted(
            replica_id="",
            model=model.id,
            node="",
            device="",
            max_batch_size=options["max_batch_size"] or self.settings.max_batch_size,
            context_length=self._context(model, footprint, options["context_length"]),
            idle_unload_s=options["idle_unload_s"],
            **effective.config,
        )
        wanted = [self._wanted(like, deployment_id, device, i) for i, device in enumerate(devices)]
        plans, footprint = self._memory(model, wanted, devices)
        shown = {**effective.config, "max_batch_size": like.max_batch_size, "context_length": like.context_length}
        return Planned(
            wanted, plans, self._other_loads(model, wanted, plans, footprint), shown, list(effective.warnings)
        )

    def _context(self, model: Model, footprint: Footprint | None, wanted: int) -> int:
        most = min(filter(None, (model.context_length, footprint.context_length if footprint else 0)))
        if wanted > most:
            raise InvalidRequest.of({"deployment_config.context_length": [f"Got {wanted}; the model has {most}."]})
        return wanted or most

    def _wanted(self, like: Wanted, deployment_id: str, device: Device, i: int) -> Wanted:
        name = replica_id(like.model, device.node, device.device, f"{deployment_id.rpartition('-')[2][:6]}-{i}")
        return replace(
            like,
            replica_id=name,
            node=device.node,
            device=device.device,
            deployment_id=deployment_id,
            state=UP,
            failure={},
        )

    def _memory(
        self, model: Model, wanted: Sequence[Wanted], devices: Sequence[Device]
    ) -> tuple[dict[str, MemoryPlan | None], Footprint | None]:
        """What each device will hold of it. Several replicas of one device add up."""
        found: dict[str, MemoryPlan | None] = {}
        load = Load.of(model.engine, asdict(wanted[0]))
        footprint: Footprint | None = None
        counts = Counter(device.name for device in devices)
        for device in {device.name: device for device in devices}.values():
            one = self.footprints.get(device, model.id)
            footprint = footprint or one
            times = counts[device.name]
            here = replace(load, device=device.device)
            found[device.name] = plan(one, here, device.memory_free).times(times) if one else None
        return found, footprint

    def _other_loads(
        self,
        model: Model,
        wanted: Sequence[Wanted],
        plans: Mapping[str, MemoryPlan | None],
        footprint: Footprint | None,
    ) -> builtins.list[dict[str, Any]]:
        """What would fit where this does not: other options on the tightest device, then other devices."""
        tight = [(name, found) for name, found in plans.items() if found and not found.fits]
        if not tight or footprint is None:
            return []
        load, spec = Load.of(model.engine, asdict(wanted[0])), SPECS[model.engine]
        name, worst = min(tight, key=lambda pair: pair[1].free_bytes)
        kind = name.rpartition(".")[2]

        def allowed(other: Load) -> bool:
            try:
                resolve(
                    spec,
                    format=footprint.format,
                    device=kind,
                    quantization=other.quantization,
                    tensor_parallel_size=other.tensor_parallel_size,
                    cpu_offload=other.cpu_offload,
                )
            except InvalidRequest:
                return False
            return True

        found = alternatives(footprint, load, worst.free_bytes, allowed=allowed)
        for device in self.registry.devices():
            one = self.footprints.get(device, model.id)
            here = replace(load, device=device.device)
            if device.name not in plans and one and plan(one, here, device.memory_free).fits:
                total = plan(one, here, device.memory_free).total_bytes
                found.append({"change": {"target_nodes": [device.name]}, "total_bytes": total})
        return found

    def _does_not_fit(self, model: Model, planned: Planned) -> DoesNotFit:
        name, worst = min(
            ((n, p) for n, p in planned.plans.items() if p and not p.fits), key=lambda pair: pair[1].free_bytes
        )
        remedy = "; ".join(_described(other) for other in planned.alternatives)
        needs, free = (f"{size / 1e9:.2f} GB" for size in (worst.total_bytes, worst.free_bytes))
        remedy = f"What would fit: {remedy}." if remedy else "Free memory there, or add a device."
        text = f"Model {model.id!r} needs {needs} on {name}, which has {free} free. {remedy}"
        return DoesNotFit(text, details={"memory_plan": planned.shown()["memory_plan"], **self._alternatives(planned)})

    def _alternatives(self, planned: Planned) -> dict[str, Any]:
        return {"alternatives": list(planned.alternatives)}

    # -- the job

    def _start(
        self,
        deployment_id: str,
        model: Model,
        body: Mapping[str, Any],
        wanted: Sequence[Wanted],
        replaced: Sequence[Wanted],
        *,
        at: Wanted,
        key: KeyRecord,
    ) -> dict[str, Any]:
        """Write the job record, then hint the agent of the device of `at`, which carries it out."""
        self._reserve(model.id, deployment_id)
        job = Job(
            id=deployment_id,
            state=JobState.QUEUED,
            kind=DEPLOYMENT,
            model=model.id,
            key_id=key.id,
            request={**body, "wanted": [asdict(one) for one in wanted], "replaced": [asdict(one) for one in replaced]},
            route=device_place(at.node, at.device),
            background=True,
        )
        self.store.redis.zadd(keys.DEPLOYMENTS, {job.id: self.store.estimated_now_ms()})
        self.store.redis.zremrangebyrank(keys.DEPLOYMENTS, 0, -MAX_LISTED - 1)
        created = self.store.create(job, ttl_ms=int(self.settings.background_ttl_s * 1000))
        try:
            send_hint(self.celery, job.id, place=job.runs_on, priority=Priority.INTERACTIVE)
        except (kombu.exceptions.OperationalError, redis.exceptions.RedisError, *CONNECTION_ERRORS) as error:
            log.warning("deployment %s: hint not sent (%s); the keeper will send it again", job.id, error)
        seconds = sum(self.durations.expected(model.id).values())
        return {
            "deployment_id": job.id,
            "status": "in_progress",
            "model_id": model.id,
            "estimated_time": deployment_views.duration(seconds),
            "progress_url": f"/models/local/deployments/{job.id}",
            "created_at": deployment_views.iso(created.job.created_at),
            **{name: body[name] for name in ("memory_plan", "effective_config", "warnings") if name in body},
        }

    def _reserve(self, model_id: str, deployment_id: str) -> None:
        """Be the only deployment that changes a model. Raises: Conflict."""
        name = keys.deploying(model_id)
        before = cast("str | None", self.store.redis.get(name))
        if before and self._changing(model_id):
            raise Conflict(
                f"Deployment {before} is changing model {model_id!r}. Wait until it has ended, or cancel it.",
                reason="deployment_in_progress",
                details={"deployment_id": before},
            )
        taken = self.store.scripts.run("swap", [name], before or "", deployment_id)
        if not taken:
            raise Conflict(
                f"Another deployment of model {model_id!r} was begun at this moment. Look at the list of deployments.",
                reason="deployment_in_progress",
            )

    def _changing(self, model_id: str) -> Job | None:
        """The deployment that is changing a model now."""
        deployment_id = cast("str | None", self.store.redis.get(keys.deploying(model_id)))
        job = self.store.read(deployment_id) if deployment_id else None
        return job if job and not job.state.ended else None

    # -- helpers

    def _local(self, model_id: str) -> Model:
        model = self.catalog.get(model_id)
        if not model.local:
            raise InvalidRequest(
                f"Model {model.id!r} is served by {model.provider}; only local models can be deployed.",
                reason="not_a_local_model",
            )
        return model

    def _deployed(self, model: Model) -> builtins.list[Wanted]:
        present = self.desired.all(model.id)
        if not present:
            raise NotDeployed(f"Model {model.id!r} is not deployed. Deploy it first: POST /models/local/deploy.")
        return present

    def _healthy_first(self, present: builtins.list[Wanted]) -> None:
        """Those that stay come first: the ones that are healthy, the oldest ahead."""
        alive = {one.replica_id: one for one in self.registry.replicas()}

        def rank(one: Wanted) -> tuple[bool, str]:
            replica = alive.get(one.replica_id)
            return (replica is None or replica.health != "healthy", replica.loaded_at if replica else "")

        present.sort(key=rank)


def _described(alternative: Mapping[str, Any]) -> str:
    change = ", ".join(f"{name} {value}" for name, value in alternative["change"].items())
    return f"{change} ({alternative['total_bytes'] / 1e9:.2f} GB)"
