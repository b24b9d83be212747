"""What each engine can do, and what of a deployment's options is in force on it. Imports no engine.

Quantization, tensor_parallel_size and cpu_offload are requirements: they are honoured or refused. use_flash_attention
and use_kv_cache are preferences: a warning says what is used instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.errors import InvalidRequest

#: `none` leaves the weights as the source has them.
QUANTIZATIONS = ("none", "bf16", "int8", "int4")
#: Their tensors are packed for one kernel: they can't be cut into shares, nor moved at each step.
_PACKED = ("int8", "int4")
_KINDS_OF_DEVICE = ("cpu", "cuda", "gpu")


@dataclass(frozen=True)
class EngineSpec:
    """The capabilities of one engine."""

    name: str
    #: Kinds of devices, a device's name without its number; `gpu` is Intel's.
    devices: Sequence[str]
    #: For each format that it reads (`gguf`, `openvino`, `safetensors`, empty without weights): the quantizations.
    quantizations: Mapping[str, Sequence[str]]
    #: What one request may ask for beyond max_tokens and temperature.
    sampling: frozenset[str]
    #: The attention that runs where flash attention does not; empty if it has none.
    attention: str
    max_tensor_parallel: int = 1
    #: Kinds of devices on which weights may stay in the host's memory.
    cpu_offload: Sequence[str] = ()
    flash_attention: Sequence[str] = ()
    kv_cache_optional: bool = False


@dataclass(frozen=True)
class Effective:
    """The options of `EngineConfig` that are in force, and what was preferred but is not."""

    config: Mapping[str, Any]
    warnings: Sequence[str]


SPECS = {
    spec.name: spec
    for spec in (
        EngineSpec(
            name="openvino",
            devices=("cpu", "gpu"),
            quantizations={"gguf": ("none",), "openvino": ("none", "int8", "int4")},
            sampling=frozenset(
                {
                    "top_p",
                    "top_k",
                    "seed",
                    "presence_penalty",
                    "frequency_penalty",
                    "repetition_penalty",
                    "logprobs",
                }
            ),
            attention="paged attention",
        ),
        EngineSpec(
            name="transformers",
            devices=("cpu", "cuda"),
            quantizations={"safetensors": QUANTIZATIONS},
            sampling=frozenset({"top_p", "top_k"}),
            attention="scaled dot-product attention",
            # As many as one machine has devices. That the model can be split is known when it is loaded.
            max_tensor_parallel=8,
            cpu_offload=("cuda",),
            flash_attention=("cuda",),
        ),
        EngineSpec(
            name="embedding",
            devices=("cpu",),
            quantizations={"safetensors": ("none", "bf16")},
            sampling=frozenset(),
            attention="scaled dot-product attention",
        ),
        # It has no weights, so that every quantization is as good; rolling from one to another is tested with it.
        EngineSpec(
            name="fake",
            devices=_KINDS_OF_DEVICE,
            quantizations={"": QUANTIZATIONS},
            sampling=frozenset({"seed", "top_p", "top_k", "logprobs"}),
            attention="",
        ),
    )
}


def formats_of(engine: str) -> tuple[str, ...]:
    """The formats that an engine reads, the preferred one first; none for an unknown engine."""
    return tuple(name for name in SPECS[engine].quantizations if name) if engine in SPECS else ()


def resolve(
    spec: EngineSpec,
    *,
    format: str,
    device: str,
    quantization: str = "none",
    tensor_parallel_size: int = 1,
    cpu_offload: bool = False,
    use_flash_attention: bool = True,
    use_kv_cache: bool = True,
) -> Effective:
    """What is in force for a deployment on a device such as `cpu0`.

    Raises:
        InvalidRequest: reason `option_not_supported`; `errors` names each requirement that can't be honoured.
    """
    kind = device.lower().rstrip("0123456789:")
    errors = {
        "source": _format_error(spec, format),
        "device": _device_error(spec, kind),
        "quantization": _quantization_error(spec, format, quantization),
        "tensor_parallel_size": _parallel_error(spec, tensor_parallel_size, quantization),
        "cpu_offload": _offload_error(spec, kind, quantization, tensor_parallel_size) if cpu_offload else "",
    }
    wrong = {name: [text] for name, text in errors.items() if text}
    if wrong:
        text = " ".join(texts[0] for texts in wrong.values())
        raise InvalidRequest(text, reason="option_not_supported", errors=wrong)
    flash = use_flash_attention and kind in spec.flash_attention
    kv_cache = use_kv_cache or not spec.kv_cache_optional
    warnings = []
    if use_flash_attention and not flash:
        instead = f"it uses {spec.attention}" if spec.attention else "it has no attention"
        warnings.append(f"use_flash_attention: the {spec.name} engine has none on {kind}; {instead}.")
    if not use_kv_cache and kv_cache:
        warnings.append(f"use_kv_cache: the {spec.name} engine can't run without; it is on.")
    config = {
        "quantization": quantization,
        "tensor_parallel_size": tensor_parallel_size,
        "cpu_offload": cpu_offload,
        "use_flash_attention": flash,
        "use_kv_cache": kv_cache,
    }
    return Effective(config, warnings)


def _format_error(spec: EngineSpec, source_format: str) -> str:
    if source_format in spec.quantizations:
        return ""
    allowed = ", ".join(name or "models without files" for name in spec.quantizations)
    return f"The {spec.name} engine can't read {source_format or 'a model without files'}; it reads: {allowed}."


def _device_error(spec: EngineSpec, kind: str) -> str:
    return "" if kind in spec.devices else f"The {spec.name} engine runs on {', '.join(spec.devices)}, not on {kind}."


def _quantization_error(spec: EngineSpec, source_format: str, quantization: str) -> str:
    if quantization not in QUANTIZATIONS:
        return f"{quantization!r} is not a quantization; allowed: {', '.join(QUANTIZATIONS)}."
    # A format that it can't read at all is an error of its own.
    allowed = spec.quantizations.get(source_format, QUANTIZATIONS)
    if quantization in allowed:
        return ""
    text = f"The {spec.name} engine can't make {quantization} of {source_format}; allowed: {', '.join(allowed)}."
    if source_format == "gguf":
        text += " A GGUF file runs as it is stored: for other weights choose a file that has them, and `none`."
    return text


def _parallel_error(spec: EngineSpec, size: int, quantization: str) -> str:
    if 1 <= size <= spec.max_tensor_parallel:
        if size > 1 and quantization in _PACKED:
            return f"Weights in {quantization} can't be split over processes; allowed with more than one: none, bf16."
        return ""
    allowed = "one process" if spec.max_tensor_parallel == 1 else f"1 to {spec.max_tensor_parallel} processes"
    return f"The {spec.name} engine runs in {allowed}, not in {size}."


def _offload_error(spec: EngineSpec, kind: str, quantization: str, tensor_parallel_size: int) -> str:
    if kind in spec.cpu_offload:
        if quantization in _PACKED:
            return f"Weights in {quantization} can't stay in the host's memory; allowed with cpu_offload: none, bf16."
        if tensor_parallel_size > 1:
            return "The shares of a model stay on their devices; leave cpu_offload or tensor_parallel_size out."
        return ""
    if kind == "cpu":
        return "On a CPU all weights are in the host's memory already; leave cpu_offload out."
    return f"The {spec.name} engine can't keep weights of {kind} in the host's memory."
