"""How much memory a model will need on a device, before it is loaded. Knows sizes only, no files and no devices."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from gateway.errors import InvalidRequest
from gateway.models.devices import DeviceName
from gateway.models.engines import EngineSpec, spec_of
from gateway.models.footprint import Footprint

GIB = 1 << 30
#: Bytes of one weight in memory, with its share of the scales, by quantization; for `none` as it is stored.
BYTES_PER_WEIGHT = {"bf16": 2.0, "int8": 1.06, "int4": 0.63}
#: Tokens in one block of the KV cache, if the engine says nothing else. Sequences are given whole blocks.
KV_BLOCK_TOKENS = 32
#: Bytes of one element of keys and values, with its share of the scales, by the type it is kept in. OpenVINO keeps u8
#: with a scale and an offset, 4 bytes each: for each channel of a block of keys, and for each head's values of a token.
#: This is for heads of 64 elements; for 128 it is 3% less.
KV_BYTES_PER_ELEMENT = {"u8": 1.1875, "f16": 2.0, "bf16": 2.0, "f32": 4.0}
#: Largest KV cache by default: this many bytes; on a device with its own memory this share of it, if that is more.
KV_LIMIT_BYTES, KV_LIMIT_SHARE = GIB, 0.25
#: Tokens in a KV cache by default if the files don't say how many bytes a token takes.
UNMEASURED_KV_TOKENS = 16_384
#: Tokens computed in one step, if the engine says nothing else, and the float32 values that each needs per hidden unit,
#: at most.
STEP_TOKENS, UNITS_PER_TOKEN = 512, 24
#: Share of the device's free memory that may be planned for.
USABLE = 0.95
#: A shorter context is not proposed.
MIN_CONTEXT = 512


@dataclass(frozen=True)
class Load:
    """The options of a load on which its memory depends."""

    engine: str
    quantization: str = "none"
    max_batch_size: int = 1
    context_length: int = 2048
    #: Size of the KV cache for all sequences, in GiB, from the engine's options; 0 = not set.
    cache_gib: float = 0.0
    cache_tokens: int = 0
    #: The type in which keys and values are kept, such as `u8`; empty = that of the files, else the engine's default.
    kv_precision: str = ""
    #: Processes that share weights and cache. Each has a device of its own; on a CPU they share its memory.
    tensor_parallel_size: int = 1
    #: Such as `cuda0`.
    device: str = ""
    #: All of its memory, used or not.
    device_bytes: int = 0
    #: The weights stay in the host's memory.
    cpu_offload: bool = False

    @classmethod
    def from_config(cls, engine: str, config: Mapping[str, Any]) -> Load:
        """From a complete replica spec; fields on which memory does not depend are ignored.

        Raises: InvalidRequest for an invalid size.
        """
        options = config.get("options", {})
        sizes = {name: _size(name, options[name]) for name in ("cache_gib", "cache_tokens") if name in options}
        names = {spec.name for spec in fields(cls)} & config.keys()
        precision = _kv_precision(dict(options.get("properties", {})))
        return cls(engine, kv_precision=precision, **sizes, **{name: config[name] for name in names})

    @property
    def spec(self) -> EngineSpec:
        """What is known of its engine."""
        return spec_of(self.engine)

    @property
    def device_kind(self) -> str:
        """Such as `cuda`."""
        return DeviceName.parse(self.device).kind

    @property
    def block_tokens(self) -> int:
        """Tokens in one block of its KV cache."""
        return self.spec.kv_block_tokens.get(self.device_kind, KV_BLOCK_TOKENS)

    @property
    def on_cpu(self) -> bool:
        """Whether its processes share the host's memory."""
        return self.device_kind == "cpu"


@dataclass(frozen=True)
class MemoryPlan:
    """The memory that a load takes of one device, in bytes."""

    weights_bytes: int
    kv_cache_bytes: int
    workspace_bytes: int
    free_bytes: int
    #: Keys and values of `max_batch_size` sequences at the full context; more than `kv_cache_bytes` if that is limited.
    kv_cache_full_bytes: int
    #: Tokens that the KV cache holds, all sequences together: what the engine is told.
    kv_capacity_tokens: int
    #: Peak while it is loaded; more than `total_bytes` if weights are quantized then.
    loading_bytes: int

    def times(self, count: int) -> MemoryPlan:
        """The plan for `count` such replicas on one device."""
        sizes = {name: size * count for name, size in self._sizes().items() if name != "free_bytes"}
        return replace(self, **sizes)

    @property
    def total_bytes(self) -> int:
        """Memory while it serves."""
        return self.weights_bytes + self.kv_cache_bytes + self.workspace_bytes

    @property
    def peak_bytes(self) -> int:
        """The larger of loading and serving."""
        return max(self.total_bytes, self.loading_bytes)

    @property
    def fits(self) -> bool:
        """Whether the device has enough free memory now."""
        return self.peak_bytes <= self.free_bytes * USABLE

    def to_public(self) -> dict[str, Any]:
        """As clients see it."""
        return {**self._sizes(), "total_bytes": self.total_bytes, "fits": self.fits}

    def _sizes(self) -> dict[str, int]:
        return {name: size for name, size in asdict(self).items() if name.endswith("_bytes")}


def plan(footprint: Footprint, load: Load, free_bytes: int) -> MemoryPlan:
    """Plan the memory of a load: weights, KV cache, and workspace.

    Workspace is the processes themselves, one step's activations and its logits in float32.
    """
    shards = load.tensor_parallel_size
    weights = 0 if load.cpu_offload else _weights_bytes(footprint, load) // shards
    making = load.spec.making_bytes_per_weight.get(load.quantization, 0.0)
    exports = footprint.format in load.spec.exports
    exporting = int(footprint.weights_bytes * load.spec.export_bytes_per_byte) if exports else 0
    base = load.spec.base_bytes
    kv_capacity_tokens, kv_bytes = _kv_capacity_tokens(footprint, load), _kv_bytes_per_token(footprint, load)
    step_tokens = load.spec.step_tokens.get(load.device_kind, STEP_TOKENS)
    activations = step_tokens * footprint.hidden_size * UNITS_PER_TOKEN * 4
    logits = load.max_batch_size * footprint.vocabulary_size * 4
    share = MemoryPlan(
        weights_bytes=weights,
        kv_cache_bytes=kv_capacity_tokens * kv_bytes // shards,
        workspace_bytes=base + activations + logits,
        free_bytes=free_bytes,
        kv_cache_full_bytes=_full_batch_tokens(load) * kv_bytes // shards,
        kv_capacity_tokens=kv_capacity_tokens,
        loading_bytes=base + max(weights, int(footprint.num_parameters * making) // shards, exporting),
    )
    return share.times(shards) if load.on_cpu else share


def require_a_sequence(footprint: Footprint, load: Load) -> None:
    """Raises: InvalidRequest if the KV cache is too small for one sequence of the full length, which could not end."""
    capacity = _kv_capacity_tokens(footprint, load)
    if capacity < load.context_length:
        name = "cache_tokens" if load.cache_tokens else "cache_gib"
        text = (
            f"A KV cache of {name} {getattr(load, name):g} holds {capacity} tokens, and one sequence may have "
            f"{load.context_length}. Raise {name}, or lower context_length to {capacity} or less."
        )
        raise InvalidRequest(text, reason="option_not_supported", errors={f"options.{name}": [text]})


def _kv_capacity_tokens(footprint: Footprint, load: Load) -> int:
    """Tokens of the KV cache, in whole blocks.

    As the options say; else enough for a full batch within the default limit, but at least for one sequence.
    """
    if load.cache_tokens:
        return _in_blocks(load, int(load.cache_tokens))
    # Each device has its share of the keys and values of all tokens.
    block_bytes = (
        load.block_tokens * _kv_bytes_per_token(footprint, load) // (1 if load.on_cpu else load.tensor_parallel_size)
    )
    limit = load.cache_gib * GIB or _default_limit(load)
    within = int(limit // block_bytes) * load.block_tokens if block_bytes else UNMEASURED_KV_TOKENS
    if load.cache_gib and block_bytes:
        return within
    return min(_full_batch_tokens(load), max(within, _in_blocks(load, load.context_length)))


def _default_limit(load: Load) -> float:
    return KV_LIMIT_BYTES if load.on_cpu else max(KV_LIMIT_BYTES, load.device_bytes * KV_LIMIT_SHARE)


def _full_batch_tokens(load: Load) -> int:
    return load.max_batch_size * _in_blocks(load, load.context_length)


def _in_blocks(load: Load, tokens: int) -> int:
    """Tokens, rounded up to whole blocks."""
    return -(-tokens // load.block_tokens) * load.block_tokens


def _kv_bytes_per_token(footprint: Footprint, load: Load) -> int:
    """Bytes of one token's keys and values as the engine keeps them, all processes together."""
    usual = load.spec.kv_precision.get(load.device_kind)
    if usual:
        kept_in = load.kv_precision or footprint.kv_precision or usual
    else:  # as the model computes
        stored = load.quantization in ("", "none")
        kept_in = "f32" if stored and footprint.bits_per_weight > 16 else "bf16"
    return int(footprint.kv_bytes_per_token / KV_BYTES_PER_ELEMENT["f16"] * KV_BYTES_PER_ELEMENT.get(kept_in, 2.0))


def _kv_precision(properties: Mapping[str, Any]) -> str:
    """The KV precision that an OpenVINO device's properties ask for; empty = none."""
    accurate = "f32" if properties.get("EXECUTION_MODE_HINT") == "ACCURACY" else ""
    return str(properties.get("KV_CACHE_PRECISION", accurate))


def _size(name: str, value: Any) -> Any:
    """Raises: InvalidRequest if it is no number above 0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise InvalidRequest.of({f"options.{name}": [f"Got {value!r:.80}; it must be a number above 0."]})
    return value


def _weights_bytes(footprint: Footprint, load: Load) -> int:
    per_weight = BYTES_PER_WEIGHT.get(load.quantization)
    if per_weight:
        per_embedding = load.spec.bytes_per_embedding_parameter.get(load.quantization, per_weight)
        embedding = footprint.outer_parameters
        return int((footprint.num_parameters - embedding) * per_weight + embedding * per_embedding)
    packed, floats = load.spec.held_on_cpu.get(footprint.format, (1.0, 1.0)) if load.on_cpu else (1.0, 1.0)
    return int(footprint.weights_bytes * (floats if footprint.bits_per_weight >= 16 else packed))


def alternatives(
    footprint: Footprint, load: Load, free_bytes: int, *, allowed: Callable[[Load], bool]
) -> list[dict[str, Any]]:
    """Variants of a load that does not fit, each of which fits: the smallest change of each kind.

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
