"""Plans a deployment: where its replicas go, with which options, and whether they fit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from gateway.cluster.desired import Desired, ReplicaSpec, SpecState, replica_id
from gateway.cluster.known_footprints import Footprints
from gateway.cluster.nodes import Nodes
from gateway.cluster.registry import Device, Registry
from gateway.deployments.making_room import limit_bytes, reclaimable_bytes, residents
from gateway.deployments.memory import MIN_CONTEXT, USABLE, Load, MemoryPlan, alternatives, plan, require_a_sequence
from gateway.deployments.placement import place
from gateway.errors import DoesNotFit, InvalidRequest
from gateway.models.engines import QUANTIZATIONS, SPECS, Effective, resolve
from gateway.models.entry import Model
from gateway.models.footprint import UNSTATED_CONTEXT, Footprint
from gateway.settings import Settings
from gateway.store.cached import Cached, by_name
from schemas.deployments import DeployRequest


@dataclass(frozen=True)
class Planned:
    """A planned deployment: its replicas, the memory of each, and the preferences that can't be met."""

    model: str
    specs: Sequence[ReplicaSpec]
    #: By `node.device`, for all replicas that go there; None where the model's size is not known.
    plans: Mapping[str, MemoryPlan | None]
    alternatives: Sequence[Mapping[str, Any]]
    effective: Mapping[str, Any]
    warnings: Sequence[str]

    @property
    def fits(self) -> bool | None:
        """Whether every device has room; None if that is unknown for one of them."""
        if tight(self.plans):
            return False
        return True if all(self.plans.values()) else None

    def to_public(self) -> dict[str, Any]:
        """As clients see it."""
        return {
            "memory_plan": {name: found.to_public() if found else None for name, found in self.plans.items()},
            "effective_config": dict(self.effective),
            "warnings": list(self.warnings),
        }

    def require_room(self) -> None:
        """Raises: DoesNotFit, with the plan and what would fit."""
        short = tight(self.plans)
        if not short:
            return
        name, worst = next(iter(short.items()))
        needs, free = (f"{size / 1e9:.2f} GB" for size in (worst.peak_bytes, worst.free_bytes))
        remedy = "; ".join(_described(other) for other in self.alternatives)
        remedy = f"What would fit: {remedy}." if remedy else "Free memory there, or add a device."
        raise DoesNotFit(
            f"Model {self.model!r} needs {needs} on {name}, which has {free} free. {remedy}",
            details={"memory_plan": self.to_public()["memory_plan"], "alternatives": list(self.alternatives)},
        )


class Planner:
    """Plans with the living devices and the model sizes that their agents have published."""

    def __init__(self, settings: Settings, registry: Registry) -> None:
        self._settings = settings
        self._registry = registry
        self._nodes = Nodes(registry.redis)
        self._footprints = Footprints(registry.redis)
        self._desired = Desired(registry.redis)
        self._for_requests: Cached[tuple[list[Device], dict[str, str]]] = Cached()

    def deployment(
        self, model: Model, request: DeployRequest, deployment_id: str, *, on_demand: bool = False
    ) -> Planned:
        """The replicas that a request asks for; `on_demand`: for a job that waits. Raises: NoDevice, InvalidRequest."""
        open_devices, held = self.open_devices(on_demand=on_demand)
        targets, replicas = request.target_nodes, request.replicas or None
        known = self._footprints.find(open_devices, model.id)
        devices = place(open_devices, targets, needs=_needs(model, known), replicas=replicas, held=held)
        footprint = self._footprints.get(devices[0], model.id)
        options = request.options()
        effective = _effective(model, request, options, devices[0], footprint)
        like = ReplicaSpec(
            replica_id="",
            model=model.id,
            node="",
            device="",
            max_batch_size=options["max_batch_size"] or self._settings.max_batch_size,
            context_length=_context(model, footprint, options["context_length"]),
            idle_unload_s=options["idle_unload_s"],
            on_demand=on_demand,
            **effective.config,
        )
        # Only a context that nobody has asked for may be shorter than the files say.
        fixed = bool(options["context_length"] or model.context_length)
        found = (self._planned if fixed else self._longest)(model, like, devices, deployment_id)
        context_length, warnings = found.specs[0].context_length, list(effective.warnings)
        if context_length < like.context_length:
            warnings.append(
                f"context_length: {context_length} of the model's {like.context_length}, since more does not fit. "
                "Set it, and it is that or refused."
            )
        sizes = {"max_batch_size": like.max_batch_size, "context_length": context_length}
        return replace(found, effective={**effective.config, **sizes}, warnings=warnings)

    def footprints(self, devices: Iterable[Device], model: Model) -> dict[str, Footprint]:
        """The size of a model as the agents of these devices have found it, by the names of those that know it."""
        return self._footprints.of(devices, model.id)

    def more(self, model: Model, present: Sequence[ReplicaSpec], count: int, deployment_id: str) -> Planned:
        """`count` more replicas, with the options of the first present one, on the devices that have the fewest.

        Raises: NoDevice, InvalidRequest.
        """
        busy = Counter(one.address for one in present)
        devices, held = self.open_devices()
        needs = _needs(model, self._footprints.find(devices, model.id))
        able = [device for device in devices if device.has(needs)]
        able.sort(key=lambda one: (busy[one.address], -one.memory_free))
        targets = [device.name for device in able]
        chosen = place(able or devices, targets, needs=needs, replicas=count, held=held)
        return self._planned(model, present[0], chosen, deployment_id)

    def _longest(self, model: Model, like: ReplicaSpec, devices: Sequence[Device], deployment_id: str) -> Planned:
        """The plan with the longest context that fits: that of the files, a half of it, a quarter, and so on.

        If none fits, the first one. Raises: InvalidRequest.
        """
        length = like.context_length
        while length >= MIN_CONTEXT:
            try:
                shorter = replace(like, context_length=length)
                if (found := self._planned(model, shorter, devices, deployment_id)).fits is not False:
                    return found
            except InvalidRequest:  # the KV cache that the options set is too small
                pass
            length //= 2
        return self._planned(model, like, devices, deployment_id)

    def open_devices(self, *, on_demand: bool = False) -> tuple[list[Device], dict[str, str]]:
        """The living devices that take new replicas, with what one may take there; and the nodes that take none, with
        why. `on_demand`: it is loaded for a request; these are at most half a second old, since many requests ask.
        """
        return self._for_requests.get(lambda: self._look(on_demand=True)) if on_demand else self._look(on_demand=False)

    def _look(self, *, on_demand: bool) -> tuple[list[Device], dict[str, str]]:
        devices, held = self._nodes.open_devices(self._registry.devices())
        if not self._settings.load_on_demand:
            return [replace(device, available_bytes=device.memory_free) for device in devices], held
        replicas = by_name(self._registry.replicas(), lambda one: f"{one.node}.{one.device}")
        specs = {one.replica_id: one for one in self._desired.all()}
        found = []
        for device in devices:
            there = residents(device, replicas.get(device.name, ()), specs)
            available = device.memory_free + reclaimable_bytes(there)
            if limit := limit_bytes(self._settings.load_on_demand_memory, device.memory_total) if on_demand else 0:
                available = min(available, int(limit / USABLE))
            found.append(replace(device, available_bytes=available))
        return found, held

    def _planned(self, model: Model, like: ReplicaSpec, devices: Sequence[Device], deployment_id: str) -> Planned:
        load = Load.from_config(model.engine, asdict(like.in_full(model, self._settings.max_batch_size)))
        for device in devices:
            if footprint := self._footprints.get(device, model.id):
                require_a_sequence(footprint, _on(device, load))
        counts = Counter(device.name for device in devices)
        plans = self._plans(model, load, devices, counts)
        specs = [_spec(like, deployment_id, device, i) for i, device in enumerate(devices)]
        others = self._alternatives(model, load, plans, counts, on_demand=like.on_demand)
        return Planned(model.id, specs, plans, others, {}, [])

    def _plans(
        self, model: Model, load: Load, devices: Sequence[Device], counts: Mapping[str, int]
    ) -> dict[str, MemoryPlan | None]:
        """The memory plan of each device. Several replicas on one device add up."""
        return {
            device.name: found.times(counts[device.name]) if (found := self._plan(model, load, device)) else None
            for device in devices
        }

    def _plan(self, model: Model, load: Load, device: Device) -> MemoryPlan | None:
        footprint = self._footprints.get(device, model.id)
        return plan(footprint, _on(device, load), device.available_bytes) if footprint else None

    def _alternatives(
        self,
        model: Model,
        load: Load,
        plans: Mapping[str, MemoryPlan | None],
        counts: Mapping[str, int],
        *,
        on_demand: bool,
    ) -> list[dict[str, Any]]:
        """What would fit instead: other options on the tightest device, then other devices, which get all replicas."""
        if not (short := tight(plans)):
            return []
        devices = {device.name: device for device in self.open_devices(on_demand=on_demand)[0]}
        name = next((name for name in short if name in devices), None)
        footprint = self._footprints.get(devices[name], model.id) if name else None
        if name is None or footprint is None:
            return []
        here = _on(devices[name], load)
        source, each = footprint.format, short[name].free_bytes // counts[name]
        found = [
            {**one, "total_bytes": one["total_bytes"] * counts[name]}
            for one in alternatives(footprint, here, each, allowed=lambda other: _allowed(model, source, other))
        ]
        for other in devices.values():
            alone = self._plan(model, load, other) if other.name not in plans else None
            elsewhere = alone.times(sum(counts.values())) if alone else None
            if elsewhere and elsewhere.fits:
                found.append({"change": {"target_nodes": [other.name]}, "total_bytes": elsewhere.total_bytes})
        return found


def _on(device: Device, load: Load) -> Load:
    return replace(load, device=device.device, device_bytes=device.memory_total)


def tight(plans: Mapping[str, MemoryPlan | None]) -> dict[str, MemoryPlan]:
    """The plans that do not fit, by device, the one with the least free memory first."""
    found = {name: plan for name, plan in plans.items() if plan and not plan.fits}
    return dict(sorted(found.items(), key=lambda pair: pair[1].free_bytes))


def _effective(
    model: Model, request: DeployRequest, options: Mapping[str, Any], device: Device, footprint: Footprint | None
) -> Effective:
    """The effective options. Without a known footprint, the engine's preferred format is assumed."""
    spec = SPECS[model.engine]
    return resolve(
        spec,
        format=footprint.format if footprint else next(iter(spec.quantizations)),
        device=device.device,
        quantization=request.quantization or (model.quantization if model.quantization in QUANTIZATIONS else "none"),
        tensor_parallel_size=options["tensor_parallel_size"],
        cpu_offload=options["cpu_offload"],
        use_flash_attention=options["use_flash_attention"],
        use_kv_cache=options["use_kv_cache"],
    )


def _allowed(model: Model, source_format: str, load: Load) -> bool:
    """Whether engine and device support these options."""
    try:
        resolve(
            SPECS[model.engine],
            format=source_format,
            device=load.device,
            quantization=load.quantization,
            tensor_parallel_size=load.tensor_parallel_size,
            cpu_offload=load.cpu_offload,
        )
    except InvalidRequest:
        return False
    return True


def _needs(model: Model, footprint: Footprint | None) -> tuple[str, ...]:
    """What must be installed on a machine that is to serve it."""
    return SPECS[model.engine].needs(footprint.format if footprint else "")


def _context(model: Model, footprint: Footprint | None, requested: int) -> int:
    """Tokens; 0 = what the files say, which are not known yet. Raises: InvalidRequest."""
    known = model.context_length, footprint.context_length if footprint else 0
    most = min(filter(None, known), default=UNSTATED_CONTEXT if footprint else 0)
    if requested > most > 0:
        raise InvalidRequest.of({"deployment_config.context_length": [f"Got {requested}; the model has {most}."]})
    return requested or most


def _spec(like: ReplicaSpec, deployment_id: str, device: Device, i: int) -> ReplicaSpec:
    name = replica_id(like.model, device.node, device.device, f"{deployment_id.rpartition('-')[2][:6]}-{i}")
    return replace(
        like,
        replica_id=name,
        node=device.node,
        device=device.device,
        deployment_id=deployment_id,
        state=SpecState.RUNNING,
        failure={},
    )


def _described(alternative: Mapping[str, Any]) -> str:
    change = ", ".join(f"{name} {value}" for name, value in alternative["change"].items())
    return f"{change} ({alternative['total_bytes'] / 1e9:.2f} GB)"
