"""Loads a model for a request that no replica could serve: where, and when again after a failure.

The load is a deployment, which Headrace itself asks for: two requests at once have one, whoever sent them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

from gateway.backoff import Backoff
from gateway.cluster.desired import ReplicaSpec, SpecState
from gateway.cluster.registry import Device
from gateway.deployments.memory import USABLE
from gateway.deployments.planning import Planned
from gateway.deployments.reasons import FailureReason
from gateway.deployments.service import Change, Deployments
from gateway.errors import DO_NOT_RETRY, Conflict, DoesNotFit, HeadraceError, InvalidRequest, LoadFailed, ModelNotReady
from gateway.jobs.record import DEPLOYMENT, OURS, Job, JobState, new_job_id
from gateway.models.engines import SPECS, how_to_install
from gateway.models.entry import Model
from gateway.store.cached import Cached
from schemas.deployments import DeployRequest

log = logging.getLogger(__name__)

#: After a load that has failed, the next one is tried so much later.
BACKOFF = Backoff(first_s=5.0, last_s=300.0)
#: Devices that are asked at once what they know of a model.
ASKED_AT_ONCE = 8


class OnDemand:
    """As `gateway.cluster.loading.Loader`."""

    def __init__(self, deployments: Deployments) -> None:
        self._deployments = deployments
        self._settings = deployments.settings
        self._store = deployments.store
        self._desired = deployments.desired
        self._planner = deployments.planner
        self._obstacles: dict[str, Cached[HeadraceError | None]] = {}

    def obstacle(self, model: Model) -> HeadraceError | None:
        """Why a request for a model that no replica serves would not load it; None if it would."""
        return self._obstacles.setdefault(model.id, Cached()).get(lambda: self._obstacle(model))

    def require(self, model: Model, besides: str = "") -> None:
        """Raises: ModelNotReady, LoadFailed, DoesNotFit, as it is now, with `besides` behind its text."""
        if error := self._obstacle(model):
            error.message += besides
            raise error

    def last(self, model: Model) -> Job | None:
        """The deployment that was the last to change a model, or does now."""
        return self._deployments.reservations.last(model.id)

    def load(self, model: Model, *, asked_by: str, instead_of: Sequence[ReplicaSpec] = ()) -> None:
        """Begin to load a model, unless that has begun. `asked_by`: the API key whose request waits for it;
        `instead_of`: replicas that can't serve it, beside those that have failed.

        Raises: ModelNotReady, LoadFailed, DoesNotFit.
        """
        present, last = self._desired.all(model.id), self.last(model)
        if any(one.state != SpecState.FAILED and one not in instead_of for one in present):
            return
        if last and not last.state.ended:
            return
        if failed := self._failed_lately(last):
            raise failed
        deployment_id = new_job_id(DEPLOYMENT)
        planned = self._planned(model, present, deployment_id)
        body = {**planned.to_public(), "on_demand": True, "asked_by": asked_by, "tries": _tries(last) + 1}
        change = Change(deployment_id, model, OURS, body=body, present=present, wanted=planned.specs, replaced=present)
        try:
            self._deployments.start(change)
        except Conflict as error:
            log.info("%s is not loaded for key %s: %s", model.id, asked_by, error.message)
        else:
            log.info("deployment %s loads %s for key %s", deployment_id, model.id, asked_by)

    def _obstacle(self, model: Model) -> HeadraceError | None:
        last = self.last(model)
        if last and not last.state.ended:
            return None
        try:
            self._planned(model, self._desired.all(model.id), "")
        except HeadraceError as error:
            return error
        return self._failed_lately(last)

    def _planned(self, model: Model, failed: Sequence[ReplicaSpec], deployment_id: str) -> Planned:
        """Where it would go. Replicas of somebody's deployment that have failed are tried again as they were.

        Raises: ModelNotReady, DoesNotFit; Conflict if its table in the catalog is wrong.
        """
        self._deployments.catalog.require_right(model.id)
        kept = [one for one in failed if not one.on_demand]
        try:
            if kept:
                planned = self._planner.more(model, kept, len(kept), deployment_id)
            else:
                planned = self._placed(model, deployment_id)
            planned.require_room()
        except DoesNotFit as error:
            error.headers.update(DO_NOT_RETRY)
            if self._settings.load_on_demand_memory:
                error.message += " Models on demand get HEADRACE_LOAD_ON_DEMAND_MEMORY of each device together."
            raise
        except InvalidRequest as error:
            raise ModelNotReady(f"Model {model.id!r} can't be loaded: {error.message}", headers=DO_NOT_RETRY) from error
        return planned

    def _placed(self, model: Model, deployment_id: str) -> Planned:
        """A replica on the device with the most free memory; if it lacks room, where most can be made.

        Raises: ModelNotReady, InvalidRequest.
        """
        freest = next(self._devices(model))
        planned = self._on(model, freest, deployment_id)
        if all(plan is None or plan.peak_bytes <= freest.memory_free * USABLE for plan in planned.plans.values()):
            return planned
        roomiest = max(self._devices(model), key=lambda one: (one.available_bytes, one.name))
        return self._on(model, roomiest, deployment_id)

    def _on(self, model: Model, device: Device, deployment_id: str) -> Planned:
        """As somebody would deploy it on a device."""
        idle = {"idle_unload_s": self._settings.load_on_demand_idle_s}
        request = DeployRequest(model_type=model.id, target_nodes=[device.name], deployment_config=idle)
        return self._planner.deployment(model, request, deployment_id, on_demand=True)

    def _devices(self, model: Model) -> Iterator[Device]:
        """Those that could load it now, the one with the most free memory first. A few at a time are asked what they
        know of it: usually the first does. Raises: ModelNotReady.
        """
        alive, _ = self._planner.open_devices(on_demand=True)
        able = [device for device in alive if model.engine in device.engines]
        able.sort(key=lambda one: (one.memory_free, one.name), reverse=True)
        known, here, lacks = False, False, ""
        for at in range(0, len(able), ASKED_AT_ONCE):
            sizes = self._planner.footprints(able[at : at + ASKED_AT_ONCE], model)
            for device in able[at : at + ASKED_AT_ONCE]:
                if size := sizes.get(device.name):
                    if not device.has(needs := SPECS[model.engine].needs(size.format)):
                        lacks = needs[-1]
                        continue
                    known = True
                    if size.here or self._settings.load_on_demand_fetch:
                        here = True
                        yield device
        if not here:
            raise _nowhere(model, alive, able, known=known, lacks=lacks)

    def _failed_lately(self, last: Job | None) -> LoadFailed | None:
        """The error of a load that has failed, until it is tried again."""
        if last is None or not blames_the_model(last):
            return None
        left_s = (last.finished_at - self._store.clock.estimated_now_ms()) / 1000 + BACKOFF.pause_s(_tries(last))
        return load_failed(last, left_s) if left_s > 0 else None


def on_demand(deployments: Deployments) -> OnDemand | None:
    """None if the settings say that nothing is loaded on demand."""
    return OnDemand(deployments) if deployments.settings.load_on_demand else None


def blames_the_model(deployment: Job) -> bool:
    """Whether another try, on another device, would fail as this deployment has."""
    return deployment.state is JobState.FAILED and deployment.error.get("reason") != FailureReason.NODE_GONE


def load_failed(deployment: Job, retry_after_s: float | None = None) -> LoadFailed:
    """The error for a request whose model this deployment could not load."""
    what, remedy = deployment.error.get("message", ""), deployment.error.get("remedy", "")
    again = f" A request loads it again in {max(1, retry_after_s):.0f} s." if retry_after_s else ""
    return LoadFailed(
        f"Model {deployment.model!r} could not be loaded: {what} {remedy}".rstrip() + again,
        retry_after_s=max(1.0, retry_after_s) if retry_after_s else None,
        details={name: deployment.error[name] for name in ("remedy", "log") if name in deployment.error},
    )


def _nowhere(
    model: Model, alive: Sequence[Device], able: Sequence[Device], *, known: bool, lacks: str
) -> ModelNotReady:
    """The error for a model that no living device can load; `able` have its engine, and one of them `known` files, or
    others have them and lack a tool.
    """
    if able and not known and not all(device.inspected for device in able):
        text = f"Model {model.id!r} is not ready: an agent still looks which models it has. Ask again in a second."
        return ModelNotReady(text, retry_after_s=1)
    if not alive:
        why = "no agent is alive that takes new replicas. Start one with 'headrace up', or 'headrace worker'."
    elif not able:
        why = f"the engine {model.engine!r} is on no machine. Install it on one: {how_to_install(model.engine)}."
    elif not known and lacks:
        why = f"{lacks!r} is on no machine that has its files. Install it there: {how_to_install(lacks)}."
    elif not known:
        why = "its weights are on no machine. Install them on one, or set its `source` in headrace.toml."
    else:
        why = "its weights are not downloaded. Deploy it once, or set HEADRACE_LOAD_ON_DEMAND_FETCH=true."
    return ModelNotReady(f"Model {model.id!r} is not ready: {why}", headers=DO_NOT_RETRY)


def _tries(last: Job | None) -> int:
    """Loads in a row that have failed; a deployment that somebody asked for counts as the first."""
    if last is None or last.state is not JobState.FAILED:
        return 0
    tries = last.request.get("tries")
    return max(1, tries) if isinstance(tries, int) else 1
