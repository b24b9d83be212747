"""How much memory a model will need on a device, before it is loaded. Knows sizes only, no files and no devices."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

GIB = 1 << 30
#: Memory of a model worker and its engine process before any weights, by engine: measured, in bytes.
BASE_BYTES = {"fake": 110 << 20, "openvino": 480 << 20, "transformers": 810 << 20, "embedding": 620 << 20}
#: Bytes that one weight takes in memory, with its share of scales, by quantization. Without one: as it is stored.
BYTES_PER_WEIGHT = {"bf16": 2.0, "int8": 1.06, "int4": 0.63}
#: The same of the vocabulary's matrices, where an engine keeps more bits of them.
BYTES_PER_OUTER_WEIGHT = {("transformers", "int8"): 2.0, ("transformers", "int4"): 2.0, ("openvino", "int4"): 1.06}
#: OpenVINO computes weights of 16 bits in 32 bits on a CPU that has no instructions for the former.
OPENVINO_BYTES_PER_FLOAT = 4.0
#: Bytes of each weight while they are made smaller: transformers has loaded all of them in bfloat16 before, and NNCF's
#: process holds them as they are stored, as 32 bits, and as they become.
MAKING_BYTES_PER_WEIGHT = {
    **dict.fromkeys([("transformers", "int8"), ("transformers", "int4")], 2.0),
    **dict.fromkeys([("openvino", "int8"), ("openvino", "int4")], 4.0),
}
#: Tokens that are computed at once, and the numbers of four bytes that each takes per hidden unit, at most.
STEP_TOKENS, UNITS_PER_TOKEN = 512, 24
#: Share of the device's free memory that may be planned for.
USABLE = 0.95
#: A shorter context is not proposed.
MIN_CONTEXT = 512


@dataclass(frozen=True)
class Footprint:
    """What a model's files say about its size. Zero = they don't say."""

    #: Of `gguf`, `safetensors`, `openvino`; empty for engines without weights.
    format: str = ""
    #: Bytes of all weight files, as they are stored.
    weights_bytes: int = 0
    num_parameters: int = 0
    #: Those of them in matrices over the vocabulary: embeddings and, if it has weights of its own, the head.
    outer_parameters: int = 0
    #: Keys and values of one token in all layers, at two bytes a number.
    kv_bytes_per_token: int = 0
    hidden_size: int = 0
    vocabulary_size: int = 0
    #: Tokens of the longest context that the model was made for.
    context_length: int = 0
    #: The bits of a stored weight, on average.
    bits_per_weight: float = 0.0


@dataclass(frozen=True)
class Load:
    """How a model is to be loaded, as far as memory depends on it."""

    engine: str
    quantization: str = "none"
    max_batch_size: int = 1
    context_length: int = 2048
    #: The most that keys and values may take, all sequences together; 0 = no limit.
    kv_limit_bytes: int = 0
    #: Processes that share weights and cache. Each has a device of its own, but all of them the same CPU.
    tensor_parallel_size: int = 1
    #: Such as `cuda0`.
    device: str = ""
    #: The weights stay in the host's memory.
    cpu_offload: bool = False

    @classmethod
    def of(cls, engine: str, config: Mapping[str, Any]) -> Load:
        """From the options of a replica; those that memory does not depend on are left out."""
        names = {spec.name for spec in fields(cls)} & config.keys()
        return cls(engine, **{name: config[name] for name in names})


@dataclass(frozen=True)
class MemoryPlan:
    """What a load will take of one device, in bytes."""

    weights_bytes: int
    kv_cache_bytes: int
    workspace_bytes: int
    free_bytes: int
    #: Keys and values of `max_batch_size` sequences at the full context; more than `kv_cache_bytes` if that is limited.
    kv_cache_full_bytes: int
    #: The most that it takes while it is loaded; more than `total_bytes` where large weights are made small.
    loading_bytes: int

    def times(self, count: int) -> MemoryPlan:
        """What so many of it take of the same device."""
        sizes = {name: size * count for name, size in asdict(self).items() if name != "free_bytes"}
        return replace(self, **sizes)

    @property
    def total_bytes(self) -> int:
        """All of it, once it serves."""
        return self.weights_bytes + self.kv_cache_bytes + self.workspace_bytes

    @property
    def peak_bytes(self) -> int:
        """What it needs at its most."""
        return max(self.total_bytes, self.loading_bytes)

    @property
    def fits(self) -> bool:
        """Whether the device has room for it now."""
        return self.peak_bytes <= self.free_bytes * USABLE

    def shown(self) -> dict[str, Any]:
        """As clients see it."""
        return {**asdict(self), "total_bytes": self.total_bytes, "fits": self.fits}


def plan(footprint: Footprint, load: Load, free_bytes: int) -> MemoryPlan:
    """What a load will take: weights, keys and values of a full batch, and workspace.

    Workspace is the processes themselves, one step's activations and its logits in float32.
    """
    shards = load.tensor_parallel_size
    weights = 0 if load.cpu_offload else _weights_bytes(footprint, load) // shards
    making = MAKING_BYTES_PER_WEIGHT.get((load.engine, load.quantization), 0.0)
    base = BASE_BYTES.get(load.engine, GIB // 2)
    kv_full = load.max_batch_size * load.context_length * footprint.kv_bytes_per_token // shards
    kv = min(kv_full, load.kv_limit_bytes) if load.kv_limit_bytes else kv_full
    activations = STEP_TOKENS * footprint.hidden_size * UNITS_PER_TOKEN * 4
    logits = load.max_batch_size * footprint.vocabulary_size * 4
    share = MemoryPlan(
        weights_bytes=weights,
        kv_cache_bytes=kv,
        workspace_bytes=base + activations + logits,
        free_bytes=free_bytes,
        kv_cache_full_bytes=kv_full,
        loading_bytes=base + max(weights, int(footprint.num_parameters * making) // shards),
    )
    return share.times(shards) if load.device.startswith("cpu") else share


def _weights_bytes(footprint: Footprint, load: Load) -> int:
    per_weight = BYTES_PER_WEIGHT.get(load.quantization)
    if per_weight:
        per_outer = BYTES_PER_OUTER_WEIGHT.get((load.engine, load.quantization), per_weight)
        outer = footprint.outer_parameters
        return int((footprint.num_parameters - outer) * per_weight + outer * per_outer)
    if load.engine == "openvino" and load.device.startswith("cpu") and footprint.bits_per_weight >= 16:
        return int(footprint.num_parameters * OPENVINO_BYTES_PER_FLOAT)
    return footprint.weights_bytes


def alternatives(
    footprint: Footprint, load: Load, free_bytes: int, *, allowed: Callable[[Load], bool]
) -> list[dict[str, Any]]:
    """Changes to a load that does not fit, each of which does: the least change of each kind.

    `allowed` says whether engine and device can do it.
    """
    found = []
    for kind in (_quantizations(load), _batches(load), _contexts(load), iter([replace(load, cpu_offload=True)])):
        for other in kind:
            fits = plan(footprint, other, free_bytes)
            if other != load and allowed(other) and fits.fits:
                changed = {name: value for name, value in asdict(other).items() if value != getattr(load, name)}
                found.append({"change": changed, "total_bytes": fits.total_bytes})
                break
    return found


def _quantizations(load: Load) -> Iterator[Load]:
    for name in BYTES_PER_WEIGHT:
        yield replace(load, quantization=name)


def _batches(load: Load) -> Iterator[Load]:
    size = load.max_batch_size // 2
    while size:
        yield replace(load, max_batch_size=size)
        size //= 2


def _contexts(load: Load) -> Iterator[Load]:
    length = load.context_length // 2
    while length >= MIN_CONTEXT:
        yield replace(load, context_length=length)
        length //= 2
