"""Adds models to the catalog, changes and removes them: what REST, gRPC and the command line call.

A model by its name is added by a job that an agent runs (`workers/agent/addition.py`), since only a node with its
engines' libraries can read its files.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from celery import Celery

from gateway.access.api_keys import KeyRecord
from gateway.access.audit import AuditLog
from gateway.cluster.registry import Device, Registry
from gateway.deployments.service import Deployments
from gateway.errors import Conflict, InvalidRequest, NoDevice, NotDeployed
from gateway.jobs.record import ADDITION, Job, JobState, new_job_id
from gateway.jobs.store import JobStore
from gateway.models.catalog import Catalog
from gateway.models.catalog_store import Added, Download
from gateway.models.names import parse_name
from gateway.models.tables import Problem
from gateway.process import log_context, trace_context
from gateway.queue.enqueue import enqueue_or_leave_to_keeper
from gateway.queue.names import Priority, device_queue_key
from gateway.settings import Settings
from schemas.catalog_changes import AddModelRequest
from schemas.sources import HubRef, parse_source


class CatalogEditor:
    """The catalog's models that were added by the API."""

    def __init__(
        self,
        *,
        settings: Settings,
        store: JobStore,
        registry: Registry,
        catalog: Catalog,
        celery: Celery,
        audit: AuditLog,
    ) -> None:
        self._settings = settings
        self._store = store
        self._registry = registry
        self._catalog = catalog
        self._celery = celery
        self._audit = audit

    def add(self, request: AddModelRequest, *, key: KeyRecord) -> dict[str, Any] | None:
        """Begin to add a model by its name, and say which job does; None: its whole table was given, and it is added.

        Raises:
            PermissionDenied, InvalidRequest, NoDevice.
            Conflict: there is a model of that id.
        """
        key.require("admin")
        if not request.source:
            self._put(request.id, Added(request.model, added_at=self._now_ms(), added_by=key.id))
            self._audit.note(key, "model.add", request.id, fields=sorted(request.model))
            return None
        if "://" not in request.source:  # which addresses are a hub's, the node knows
            _require_name(request.source)
        if request.id:
            self._require_right(request.id, {"capabilities": ["chat"], **request.model})
        begun = self._start(request, self._device(request.node), key)
        fields = sorted(request.model)
        if not request.dry_run:
            self._audit.note(key, "model.add", request.id or request.source, job_id=begun["job_id"], fields=fields)
        return begun

    def change(self, model_id: str, table: Mapping[str, Any], *, key: KeyRecord) -> None:
        """Change fields of a model that was added. A deployed one keeps its options until it is deployed anew.

        Raises: PermissionDenied, ModelNotFound, Conflict, InvalidRequest.
        """
        key.require("admin")
        before = self._added(key, model_id)
        kept = {name: value for name, value in {**before.table, **table}.items() if value is not None}
        self._put(model_id, replace(before, table=kept), over=True)
        self._audit.note(key, "model.change", model_id, fields=sorted(table))

    def remove(self, model_id: str, *, files: bool, key: KeyRecord, deployments: Deployments) -> dict[str, Any]:
        """Remove a model that was added: its replicas end, and with `files` what was downloaded of it goes, too.

        Raises: PermissionDenied, ModelNotFound, Conflict.
        """
        key.require("admin")
        added = self._added(key, model_id)
        nodes: list[str] = []
        if self._catalog.get(model_id).deployable:
            with contextlib.suppress(NotDeployed):
                nodes = deployments.unload(model_id, key=key)["nodes"]
        downloaded = files and isinstance(parse_source(str(added.table.get("source", ""))), HubRef)
        store = self._catalog.sources.require_store()
        store.remove(model_id, discard=Download.of(added.table) if downloaded else None)
        self._catalog.refresh()
        deployments.desired.drop(deployments.desired.all(model_id))  # a request may have loaded it meanwhile
        self._audit.note(key, "model.remove", model_id, files=downloaded)
        return {"model_id": model_id, "unloading": nodes, "files": "removing" if downloaded else "kept"}

    def _added(self, key: KeyRecord, model_id: str) -> Added:
        """What was added under that id. Raises: ModelNotFound; Conflict if a file says it."""
        self._catalog.refresh()
        self._catalog.get_for(key, model_id)
        if (found := self._catalog.sources.added(model_id)) is None:
            origin = self._catalog.sources.origin(model_id)
            raise Conflict(
                f"Model {model_id!r} is not one that was added here: it comes from {origin}. Change it there; in "
                "headrace.toml `enabled = false` takes it out.",
                reason="not_an_added_model",
            )
        return found

    def _put(self, model_id: str, model: Added, *, over: bool = False) -> None:
        """Raises: InvalidRequest naming the wrong field; Conflict."""
        self._require_right(model_id, model.table)
        store = self._catalog.sources.require_store()
        if over:
            store.change(model_id, model)
        else:
            self._catalog.require_new(model_id)
            store.add(model_id, model)
        self._catalog.refresh()

    def _require_right(self, model_id: str, table: Mapping[str, Any]) -> None:
        """Raises: InvalidRequest naming a wrong field."""
        found = self._catalog.sources.proposed(model_id, table)
        if isinstance(found, Problem):
            raise InvalidRequest.of({found.field: [found.text]})

    def _start(self, request: AddModelRequest, device: Device, key: KeyRecord) -> dict[str, Any]:
        job = Job(
            id=new_job_id(ADDITION),
            state=JobState.QUEUED,
            kind=ADDITION,
            model=request.id or request.source,
            key_id=key.id,
            request={
                "name": request.source,
                "id": request.id,
                "pull": request.pull,
                "dry_run": request.dry_run,
                "table": dict(request.model),
            },
            route=device_queue_key(*device.address),
            background=True,
            request_id=log_context.request_id(),
            traceparent=trace_context.current().traceparent,
            tracestate=trace_context.current().tracestate,
        )
        self._store.create(job, ttl_ms=int(self._settings.background_ttl_s * 1000))
        enqueue_or_leave_to_keeper(self._celery, job.id, queue_key=job.runs_on, priority=Priority.INTERACTIVE)
        self._store.require(job.id)
        path = f"{self._settings.root_path}/jobs/{job.id}"
        return {
            "job_id": job.id,
            "status": JobState.QUEUED.word,
            "name": request.source,
            "location": path,
            "events_url": f"{path}/events",
        }

    def _device(self, target: str) -> Device:
        """The one that is named, else one of this machine, else that with the most free memory. Raises: NoDevice."""
        devices = self._registry.devices()
        if not devices:
            raise NoDevice("No agent is alive. Start one with 'headrace up', or 'headrace worker --node NAME'.")
        if target:
            devices = [device for device in devices if target in (device.node, device.name)]
        if not devices:
            alive = ", ".join(sorted(device.name for device in self._registry.devices()))
            raise InvalidRequest.of({"node": [f"There is no {target!r} that is alive; alive are: {alive}."]})
        return max(devices, key=lambda one: (one.node == self._settings.node, one.memory_free))

    def _now_ms(self) -> int:
        return self._store.clock.estimated_now_ms()


def _require_name(name: str) -> None:
    """Raises: InvalidRequest."""
    try:
        parse_name(name)
    except ValueError as error:
        raise InvalidRequest.of({"source": [f"{error}."]}) from error
