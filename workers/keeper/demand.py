"""Jobs that wait for a local model without a replica: it is loaded for them, or they fail with the reason why not.

Whoever takes a request has its model loaded at once. Here is done what a process, a node or Redis has left over.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from gateway.cluster.desired import ReplicaSpec, SpecState
from gateway.cluster.registry import Registry
from gateway.deployments.on_demand import OnDemand, blames_the_model, load_failed
from gateway.errors import HeadraceError, LoadFailed
from gateway.jobs.record import Job, JobHead
from gateway.models.entry import Model
from gateway.store.loop import guarded
from workers.keeper.sweeps import QueueSweep

log = logging.getLogger("headrace.keeper")


class Demand:
    """Of all models that are loaded on demand."""

    def __init__(self, on_demand: OnDemand, queues: QueueSweep, registry: Registry) -> None:
        self._on_demand = on_demand
        self._queues = queues
        self._registry = registry
        #: By model: since when the devices of its replicas have no agent.
        self._stranded_since: dict[str, float] = {}
        #: By model: why it can't be loaded.
        self.obstacles: dict[str, str] = {}

    def meet(self, model: Model, waiting: Sequence[JobHead]) -> bool:
        """See to a model without a replica for which jobs wait. Returns whether it is being loaded. Raises: NOT_NOW."""
        last = self._on_demand.last(model)
        if last and not last.state.ended:
            return True
        left = [job for job in waiting if not self._ends_with(last, job)]
        try:
            return not left or self._load(model, left[0])
        except LoadFailed as error:
            self._fail(left, error)
            return True

    def move(self, model: Model, waiting: Sequence[JobHead], specs: Sequence[ReplicaSpec], *, after_s: float) -> None:
        """Load a model elsewhere, if it was loaded on demand and its devices have had no agent for so long."""
        alive = {device.address for device in self._registry.devices()}
        wanted = [one for one in specs if one.state != SpecState.FAILED]
        if any(one.address in alive or not one.on_demand for one in wanted):
            self._stranded_since.pop(model.id, None)
        elif time.monotonic() - self._stranded_since.setdefault(model.id, time.monotonic()) > after_s:
            self._load(model, waiting[0], instead_of=wanted)

    def _load(self, model: Model, job: JobHead, instead_of: Sequence[ReplicaSpec] = ()) -> bool:
        """Load a model for a job. Returns whether it is being loaded. Raises: LoadFailed."""
        try:
            self._on_demand.load(model, asked_by=job.key_id, instead_of=instead_of)
        except LoadFailed:
            raise
        except HeadraceError as error:
            self.obstacles[model.id] = error.message
            return False
        return True

    def _ends_with(self, last: Job | None, job: JobHead) -> bool:
        """Fail a job that has waited for a load which failed. Returns whether it did."""
        if last is None or not blames_the_model(last) or job.created_at > last.finished_at:
            return False
        self._fail([job], load_failed(last))
        return True

    def _fail(self, jobs: Sequence[JobHead], error: LoadFailed) -> None:
        more = {name: str(error.details[name]) for name in ("remedy",) if name in error.details}
        for job in jobs:
            log.warning("job %s: %s", job.id, error.message, extra=job.log_ids)
            with guarded(f"job {job.id}"):
                self._queues.fail(job, reason=error.reason, message=error.message, **more)
