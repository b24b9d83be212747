"""Which model serves a request: the one that was asked for, or the first of its fallbacks that can.

Statuses come from the heartbeats of replicas and provider workers, and from the providers' circuit breakers.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from itertools import chain

from gateway.cluster.desired import Desired, ReplicaSpec, SpecState
from gateway.cluster.known_footprints import Footprints
from gateway.cluster.loading import Loader
from gateway.cluster.registry import ProviderWorker, Registry, Replica, ReplicaStatus
from gateway.cluster.serving import Served, Serving
from gateway.errors import DO_NOT_RETRY, HeadraceError, LoadFailed, ModelNotReady, UpstreamUnavailable
from gateway.inference.breaker import Breaker, Circuit, CircuitState
from gateway.models.catalog import Catalog, Model
from gateway.scheduling.capacity import Capacity
from gateway.store.cached import Cached, CachedByName
from gateway.store.connection import NOT_NOW
from gateway.store.scripts import Scripts

log = logging.getLogger(__name__)


class ModelStatus(StrEnum):
    """The status of a model, local or remote."""

    ACTIVE = "active"
    #: A replica of it loads, or is about to.
    LOADING = "loading"
    #: Unloaded after it was idle; the next request wakes it.
    ASLEEP = "asleep"
    FAILED = "failed"
    UNLOADING = "unloading"
    #: No replica is there, and the next request loads one.
    AVAILABLE = "available"
    #: No replica, or no provider worker, is alive.
    INACTIVE = "inactive"
    #: Its files are missing, so it can't even be deployed.
    NO_WEIGHTS = "no_weights"
    #: The key of its provider is missing.
    NO_CREDENTIALS = "no_credentials"
    #: Its provider failed lately, and is tried again (half-open circuit).
    DEGRADED = "degraded"
    #: Its provider fails (open circuit).
    UNAVAILABLE = "unavailable"


#: What to do about a model that can't take requests, by its status.
NOT_READY = {
    ModelStatus.INACTIVE: "no replica is alive. Deploy it, then send the request again.",
    ModelStatus.UNLOADING: "it is being unloaded. Deploy it again, then send the request again.",
    ModelStatus.FAILED: "its replicas failed to start. See its deployment or its worker's log, then deploy it again.",
    ModelStatus.NO_WEIGHTS: "its weights are on no machine. Install them on one, or set its `source` in headrace.toml.",
    ModelStatus.NO_CREDENTIALS: "its provider's key is missing. Set the variable {variable}, then restart.",
}
#: Those that never end by themselves: to ask again is of no use.
_LASTING = (ModelStatus.FAILED, ModelStatus.NO_WEIGHTS, ModelStatus.NO_CREDENTIALS)
#: For how long it is known which models' files agents have found: they look for them every few minutes.
KNOWN_S = 5.0
_NO_WORKER = "no provider worker is alive. Start one with 'python -m workers.providers'."
#: Statuses of a local model that has a replica for requests.
_SERVING = (ModelStatus.ACTIVE, ModelStatus.LOADING, ModelStatus.ASLEEP)
#: In order of preference: a local model has the first of these statuses that one of its replicas has.
_LOCAL = (*_SERVING, ModelStatus.FAILED, ModelStatus.UNLOADING)
#: The status that a spec alone gives to its model, while its replica may not be alive.
_STATUS_OF_SPEC = {
    SpecState.RUNNING: ModelStatus.LOADING,
    SpecState.ASLEEP: ModelStatus.ASLEEP,
    SpecState.FAILED: ModelStatus.FAILED,
}
#: The status of a remote model, by the state of its provider's circuit.
BY_CIRCUIT = {
    CircuitState.CLOSED: ModelStatus.ACTIVE,
    CircuitState.HALF_OPEN: ModelStatus.DEGRADED,
    CircuitState.OPEN: ModelStatus.UNAVAILABLE,
}


class Router:
    """Reads heartbeats and specs of the models that it is asked about, at most twice a second."""

    def __init__(self, *, registry: Registry, catalog: Catalog, breaker: Breaker, loader: Loader | None = None) -> None:
        self.registry = registry
        #: Loads models for requests; None: nobody does.
        self.loader = loader
        self.desired = Desired(registry.redis)
        self.footprints = Footprints(registry.redis)
        self.catalog = catalog
        self.breaker = breaker
        serving = Serving(registry, self.desired, Scripts(registry.redis))
        self._served = CachedByName(serving.of, serving.all, Served())
        self._known: Cached[set[str]] = Cached(KNOWN_S)
        self._workers: Cached[list[ProviderWorker]] = Cached()
        self._circuits: dict[str, Cached[Circuit]] = {}

    def status(self, model: Model) -> ModelStatus:
        """The status of a model, at most half a second old."""
        model = self._server(model)
        if not model.local:
            return self._obstacle(model) or BY_CIRCUIT[self.circuit(model).state]
        statuses: set[str] = {replica.status for replica in self.replicas(model)}
        statuses |= {_STATUS_OF_SPEC[SpecState(spec.state)] for spec in self.specs(model)}
        found = next((status for status in _LOCAL if status in statuses), None)
        if found in _SERVING:
            return found
        if self.loader:
            obstacle = self.loader.obstacle(model)
            if obstacle is None:
                return ModelStatus.AVAILABLE
            found = ModelStatus.FAILED if isinstance(obstacle, LoadFailed) else found
        return found or (ModelStatus.INACTIVE if self._has_weights(model) else ModelStatus.NO_WEIGHTS)

    def _has_weights(self, model: Model) -> bool:
        """Whether its files are on this machine, or on one that has an agent."""
        if model.has_weights or model.downloadable:
            return True
        return model.id in self._known.get(lambda: self.footprints.known(self.registry.devices()))

    def asleep(self, model_id: str) -> bool:
        """Whether a replica of the model sleeps, and none is awake."""
        states = {spec.state for spec in self._served.get(model_id).specs}
        return SpecState.ASLEEP in states and SpecState.RUNNING not in states

    def find(self, model_id: str) -> Model | None:
        """The entry of a model; None if the catalog has none any more."""
        return next((model for model in self.catalog if model.id == model_id), None)

    def replicas(self, model: Model) -> Sequence[Replica]:
        """The living replicas that serve a model."""
        return self._served.get(model.base or model.id).replicas

    def specs(self, model: Model) -> Sequence[ReplicaSpec]:
        """The desired replicas that serve a model."""
        return self._served.get(model.base or model.id).specs

    def everything(self) -> tuple[list[Replica], list[ReplicaSpec]]:
        """The replicas and the specs of all models, read now. For a while those of single ones come from here.

        For pages that show many models, or what was just changed.
        """
        found = self._served.all().values()
        replicas, specs = ([one.replicas for one in found], [one.specs for one in found])
        return [*chain.from_iterable(replicas)], [*chain.from_iterable(specs)]

    def capacity(self, model_id: str, *, background: bool) -> Capacity:
        """How fast a model gets through its jobs, as its replicas have measured it."""
        found = [one for one in self._served.get(model_id).replicas if one.status == ReplicaStatus.ACTIVE]
        slots = sum(_slots(replica, background=background) for replica in found)
        held = sum(replica.held + (replica.background_held if background else 0) for replica in found)
        means = [mean for r in found if (mean := r.background_slot_s if background else r.slot_s)]
        slot_s = sum(means) / len(means) if means else 0.0
        return Capacity(slots, max(0, sum(replica.max_batch_size for replica in found) - held), slot_s)

    def circuit(self, model: Model) -> Circuit:
        """The circuit of a remote model's provider, at most half a second old."""
        recent = self._circuits.setdefault(model.provider, Cached())
        return recent.get(lambda: self.breaker.state(model.provider))

    def bring(self, model_id: str, *, asked_by: str) -> None:
        """See to it that a model for which a request waits is served: one that sleeps is woken, one that may be loaded
        for requests is loaded for the API key `asked_by`. What can't be done now is left to the keeper.
        """
        try:
            if self.asleep(model_id):
                self.desired.wake(model_id)
            elif self.loader and self.status(model := self.catalog.get(model_id)) is ModelStatus.AVAILABLE:
                self.loader.load(model, asked_by=asked_by)
        except (HeadraceError, *NOT_NOW) as error:
            log.warning("model %s is left to the keeper: %s", model_id, error)

    def serves(self, model: Model) -> bool:
        """Whether the model itself takes requests now, be it that it is loaded for them."""
        if model.local:
            return self.status(model) in (*_SERVING, ModelStatus.AVAILABLE)
        return not self._obstacle(model) and self.circuit(model).allows_call

    def route(self, model: Model, capability: str, refusal: Callable[[Model], str] | None = None) -> Model:
        """The model that takes a request for this one: itself, if need be after it was loaded; else a fallback that is
        there; else one that can be loaded.

        `refusal` says why a fallback can't do what the request asks; empty if it can.

        Raises:
            ModelNotReady, DoesNotFit, UpstreamUnavailable: neither it nor a fallback can; the text says what to do.
        """
        if self.serves(model):
            return model
        skipped = {}
        for other in self.ready_fallbacks(model, capability):
            if not (why := refusal(other) if refusal else ""):
                return other
            skipped[other.id] = why
        self._require_ready(
            model, "".join(f" Its fallback {n} can't do what is asked: {w}" for n, w in skipped.items())
        )
        return model

    def takes(self, model: Model) -> bool:
        """Whether the model or one of its fallbacks takes requests now."""
        return self.serves(model) or any(self.ready_fallbacks(model, one) for one in model.capabilities)

    def fallbacks(self, model: Model, capability: str) -> Iterator[Model]:
        """The models that may take over. Vectors of two models can't be compared, so embeddings have none."""
        if capability == "embedding" or not model.fallbacks:
            return
        known = {other.id: other for other in self.catalog}
        for name in model.fallbacks:
            if name in known and name != model.id and capability in known[name].capabilities:
                yield known[name]

    def ready_fallbacks(self, model: Model, capability: str) -> list[Model]:
        """Those that take requests now: first those that are there, then those that are loaded for a request."""
        able = [other for other in self.fallbacks(model, capability) if self.serves(other)]
        return sorted(able, key=lambda other: self.status(other) is ModelStatus.AVAILABLE)

    def _obstacle(self, model: Model) -> ModelStatus | None:
        """Why a remote model can't be asked, apart from its provider's circuit; None if it can."""
        workers = self._workers.get(self.registry.providers)
        provider = self.catalog.providers[model.provider]
        if not (any(provider.name in w.credentials for w in workers) if workers else provider.has_credentials):
            return ModelStatus.NO_CREDENTIALS
        return None if workers else ModelStatus.INACTIVE

    def _server(self, model: Model) -> Model:
        """The model whose replicas serve this one: itself, unless it is an adapter."""
        return self.catalog.get(model.base) if model.base else model

    def _require_ready(self, model: Model, besides: str = "") -> None:
        model = self._server(model)
        status = self.status(model)
        if status is ModelStatus.UNAVAILABLE:
            wait_s = self.circuit(model).retry_after_s
            raise UpstreamUnavailable(
                f"Model {model.id!r} is not available: its provider {model.provider} has failed several times in a "
                f"row. It is tried again in {wait_s:.0f} s.{besides}",
                retry_after_s=max(1.0, wait_s),
            )
        if model.local and self.loader:
            self.loader.require(model, besides)
        alone = status is ModelStatus.INACTIVE and not model.local
        remedy = _NO_WORKER if alone else NOT_READY.get(status)
        if remedy:
            variable = "" if model.local else self.catalog.providers[model.provider].api_key_env
            text = f"Model {model.id!r} is not ready: {remedy.format(variable=variable)}{besides}"
            keyless, lasts = status is ModelStatus.NO_CREDENTIALS, status in _LASTING
            raise ModelNotReady(
                text,
                reason="no_credentials" if keyless else None,
                retry_after_s=None if lasts else 5,
                headers=DO_NOT_RETRY if lasts else None,
            )


def _slots(replica: Replica, *, background: bool) -> float:
    """Slots that jobs of a kind get from a replica; all of them until it has measured that, as older ones never do."""
    gets = replica.background_gets if background else replica.gets
    return gets if gets >= 0 else replica.max_batch_size
