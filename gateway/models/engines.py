"""The table of engines: what each can do, and how a deployment's options apply to it. Imports no engine.

A new engine is one module of `workers/engines` and one entry here.

Quantization, tensor_parallel_size and cpu_offload are requirements: they are honoured or refused. use_flash_attention
and use_kv_cache are preferences: a warning says what is used instead.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.errors import InvalidRequest
from gateway.models.devices import DeviceName

#: `none` leaves the weights as the source has them.
QUANTIZATIONS = ("none", "bf16", "int8", "int4")
#: Their tensors are packed for one kernel: they can't be split over devices, nor moved at each step.
_PACKED = ("int8", "int4")
#: What engines may be asked for, see `EngineSpec.can`.
_DRAWS = frozenset({"top_p", "top_k"})
_PENALTIES = frozenset({"presence_penalty", "frequency_penalty", "repetition_penalty"})
_LIKELY = frozenset({"top_logprobs", "prompt_logprobs"})
#: What every engine keeps that makes text: the scores, and what is done with them, whatever came before.
_KEPT = _DRAWS | {"greedy", "grammar", "min_p", "logprobs"}
_KINDS_OF_DEVICE = ("cpu", "cuda", "gpu")
#: The types of models that are exported to OpenVINO IR. A test compares the answers of one of each.
EXPORTED = (
    *("arcee", "bloom", "codegen", "cohere", "cohere2", "falcon", "glm4", "gpt2", "gpt_bigcode", "gpt_neox"),
    *("gpt_oss", "gptj", "granite", "granitemoe", "llama", "mistral", "mixtral", "olmo", "olmo2", "opt", "phi"),
    *("phi3", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "smollm3", "stablelm", "starcoder2"),
)


@dataclass(frozen=True)
class EngineSpec:
    """One engine: its implementation, its capabilities, and its memory use."""

    name: str
    #: `module:Class`, imported in the engine process.
    implementation: str
    #: Modules of other packages that must be installed.
    requires: Sequence[str]
    #: Kinds of devices, a device's name without its number; `gpu` is Intel's.
    devices: Sequence[str]
    #: For each format that it serves (`gguf`, `openvino`, `safetensors`, empty without weights): the quantizations.
    quantizations: Mapping[str, Sequence[str]]
    #: The attention that runs where flash attention does not; empty if it has none.
    attention: str
    #: Measured memory of a model worker and its engine process without weights, in bytes.
    base_bytes: int
    #: What turns jobs into sequences, `module:function`, imported in the model worker.
    job_handler: str = "workers.handlers.generation:load_generation"
    #: It runs in an environment of its own (`workers/host/venvs.py`), since its packages do not agree with ours.
    is_apart: bool = False
    #: Formats that it serves where a tool is installed, in an environment of its own, too, that makes others of them.
    exports: Mapping[str, str] = field(default_factory=dict)
    #: The language of `Sampling.grammar`: `lark` (llguidance's) or `ebnf` (xgrammar's); empty if it has none.
    grammar_language: str = ""
    #: What a request may ask of it beside temperature and max_tokens, in the words of `Sampling`.
    can: frozenset[str] = frozenset()
    #: With what of these, and `greedy` and `grammar`, a resume goes on as if nothing had happened (docs/engines.md). Of
    #: the others, a seed draws fresh noise, and a penalty has forgotten what it had counted.
    keeps: frozenset[str] = frozenset()
    #: For a format of which it serves only some: the architectures (in safetensors the types of models) that it knows,
    #: and the types its matrices may have.
    architectures: Mapping[str, Sequence[str]] = field(default_factory=dict)
    weight_types: Mapping[str, Sequence[str]] = field(default_factory=dict)
    #: Kinds of devices on which it computes weights that others have packed, by the word for it in config.json; empty =
    #: this is not known of it.
    packed: Mapping[str, Sequence[str]] = field(default_factory=dict)
    #: Modules of other packages that such weights need, by the same words.
    packed_require: Mapping[str, str] = field(default_factory=dict)
    #: One replica serves adapters (LoRA) of its model beside it.
    adapters: bool = False
    max_tensor_parallel: int = 1
    #: Kinds of devices on which weights may stay in the host's memory.
    cpu_offload: Sequence[str] = ()
    flash_attention: Sequence[str] = ()
    kv_cache_optional: bool = False
    #: Default type of keys and values by kind of device, if neither files nor options set it; for other kinds it is
    #: the type in which the model computes.
    kv_precision: Mapping[str, str] = field(default_factory=dict)
    #: Tokens of a block of the KV cache, and of a step, by kind of device, where they are not the usual ones.
    kv_block_tokens: Mapping[str, int] = field(default_factory=dict)
    step_tokens: Mapping[str, int] = field(default_factory=dict)
    #: Bytes of one embedding parameter, by quantization, if it is quantized less than the others.
    bytes_per_embedding_parameter: Mapping[str, float] = field(default_factory=dict)
    #: Bytes of a CPU's memory for each byte of a file, by its format, if more than one: of weights in fewer than 16
    #: bits, and of others.
    held_on_cpu: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    #: Bytes of one weight while it is being quantized, by quantization.
    making_bytes_per_weight: Mapping[str, float] = field(default_factory=dict)
    #: Bytes for each byte of a file while it is being exported.
    export_bytes_per_byte: float = 0.0

    @property
    def formats(self) -> tuple[str, ...]:
        """The formats that it reads as they are, the preferred one first."""
        return tuple(name for name in self.quantizations if name and name not in self.exports)

    def needs(self, format: str) -> tuple[str, ...]:
        """What must be installed on a machine that is to serve a format with it: itself, and perhaps a tool."""
        return (self.name, *([self.exports[format]] if format in self.exports else []))

    @property
    def weightless(self) -> bool:
        """Whether it needs no files."""
        return "" in self.quantizations


@dataclass(frozen=True)
class Effective:
    """The effective options of `EngineConfig`, and warnings about preferences that can't be met."""

    config: Mapping[str, Any]
    warnings: Sequence[str]


#: Those that come first are preferred where nobody has named one, and where they are installed.
SPECS = {
    spec.name: spec
    for spec in (
        EngineSpec(
            name="openvino",
            implementation="workers.engines.openvino.openvino_engine:OpenVinoEngine",
            requires=("openvino_genai",),
            devices=("cpu", "gpu"),
            quantizations={
                "gguf": ("none",),
                "openvino": ("none", "int8", "int4"),
                "safetensors": ("none", "int8", "int4"),
            },
            exports={"safetensors": "openvino-export"},
            attention="paged attention",
            grammar_language="ebnf",
            base_bytes=480 << 20,
            can=_DRAWS | _PENALTIES | {"seed", "min_p", "logprobs"},
            keeps=_KEPT | {"repetition_penalty"},
            architectures={"gguf": ("llama", "qwen2", "qwen3"), "safetensors": EXPORTED},
            weight_types={"gguf": ("F16", "Q8_0", "Q6_K", "Q4_K", "Q4_1", "Q4_0")},
            kv_precision={"cpu": "u8", "gpu": "f16"},
            bytes_per_embedding_parameter={"int4": 1.06},
            # As they are stored, and as it computes with them: measured with a Llama of 450 million weights. What it
            # has read of IR is the file's own pages.
            held_on_cpu={"gguf": (2.2, 3.0)},
            # NNCF's process holds the stored weights, a 32-bit copy, and the result.
            making_bytes_per_weight={"int8": 4.0, "int4": 4.0},
            export_bytes_per_byte=1.3,
        ),
        EngineSpec(
            name="vllm",
            implementation="workers.engines.vllm.vllm_engine:VllmEngine",
            requires=("vllm",),
            is_apart=True,
            devices=("cpu", "cuda"),
            quantizations={"safetensors": ("none", "bf16")},
            attention="paged attention",
            base_bytes=2200 << 20,
            grammar_language="lark",
            can=_DRAWS | _PENALTIES | _LIKELY | {"seed", "min_p", "logprobs", "logit_bias"},
            keeps=_KEPT | _LIKELY | {"repetition_penalty", "logit_bias"},
            adapters=True,
            packed={
                **dict.fromkeys(("awq", "gptq", "compressed-tensors"), ("cpu", "cuda")),
                **dict.fromkeys(("fp8", "mxfp4", "modelopt", "quark", "torchao"), ("cuda",)),
            },
            max_tensor_parallel=8,
            flash_attention=("cuda",),
        ),
        EngineSpec(
            name="transformers",
            implementation="workers.engines.pytorch.transformers:TransformersEngine",
            requires=("torch", "transformers"),
            devices=("cpu", "cuda"),
            quantizations={"safetensors": QUANTIZATIONS},
            attention="scaled dot-product attention",
            base_bytes=810 << 20,
            grammar_language="lark",
            can=_DRAWS | _PENALTIES | _LIKELY | {"seed", "min_p", "logprobs", "logit_bias"},
            keeps=_KEPT | _PENALTIES | _LIKELY | {"seed", "logit_bias"},
            packed_require={
                "awq": "gptqmodel",
                "gptq": "gptqmodel",
                "compressed-tensors": "compressed_tensors",
                "bitsandbytes": "bitsandbytes",
            },
            # Enough for the devices of one machine. Whether a model can be split shows when it is loaded.
            max_tensor_parallel=8,
            cpu_offload=("cuda",),
            flash_attention=("cuda",),
            kv_block_tokens={"cuda": 256},
            step_tokens={"cuda": 4096},
            bytes_per_embedding_parameter={"int8": 2.0, "int4": 2.0},
            # All weights are loaded in bfloat16 first.
            making_bytes_per_weight={"int8": 2.0, "int4": 2.0},
        ),
        EngineSpec(
            name="embedding",
            implementation="workers.engines.pytorch.encoder:EmbeddingEngine",
            requires=("torch", "transformers"),
            devices=("cpu",),
            quantizations={"safetensors": ("none", "bf16")},
            attention="scaled dot-product attention",
            base_bytes=620 << 20,
            job_handler="workers.handlers.embeddings:load_embedding",
        ),
        # It has no weights, so every quantization works; tests use that to replace one with another.
        EngineSpec(
            name="fake",
            implementation="workers.engines.fake:FakeEngine",
            requires=(),
            devices=_KINDS_OF_DEVICE,
            quantizations={"": QUANTIZATIONS},
            attention="",
            base_bytes=110 << 20,
            grammar_language="lark",
            can=_DRAWS | _LIKELY | {"seed", "min_p", "logprobs", "logit_bias"},
            keeps=_KEPT | _LIKELY | {"seed", "logit_bias"},
        ),
    )
}


def spec_of(engine: str) -> EngineSpec:
    """Raises: ValueError, naming the engines that exist."""
    if engine not in SPECS:
        raise ValueError(f"There is no engine {engine!r}; supported: {', '.join(sorted(SPECS))}.")
    return SPECS[engine]


#: See `EngineSpec.exports`.
TOOLS = frozenset(tool for spec in SPECS.values() for tool in spec.exports.values())


def how_to_install(name: str) -> str:
    """The command that installs an engine, or a tool, on a machine."""
    is_apart = name in TOOLS or (name in SPECS and SPECS[name].is_apart)
    return f"headrace engine install {name}" if is_apart else "pip install 'headrace[worker]'"


def able(feature: str) -> list[str]:
    """The engines that can do it, see `EngineSpec.can`."""
    return sorted(name for name, spec in SPECS.items() if feature in spec.can)


def keeping(features: Collection[str]) -> list[str]:
    """The engines that keep all of them over a resume, see `EngineSpec.keeps`."""
    return sorted(name for name, spec in SPECS.items() if spec.keeps.issuperset(features))


def formats_of(engine: str) -> tuple[str, ...]:
    """The formats that an engine reads, the preferred one first; none for an unknown engine."""
    return SPECS[engine].formats if engine in SPECS else ()


def is_weightless(engine: str) -> bool:
    """Whether an engine needs no files; an unknown one does."""
    return engine in SPECS and SPECS[engine].weightless


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
    """The effective options of a deployment on a device such as `cpu0`.

    Raises:
        InvalidRequest: reason `option_not_supported`; `errors` names each requirement that can't be honoured.
    """
    kind = DeviceName.parse(device).kind
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
    # A format that it can't read at all is reported by `_format_error`.
    allowed = spec.quantizations.get(source_format, QUANTIZATIONS)
    if quantization in allowed:
        return ""
    text = f"The {spec.name} engine can't make {quantization} of {source_format}; allowed: {', '.join(allowed)}."
    if source_format == "gguf":
        text += " A GGUF file runs as it is stored: for other weights choose a file that has them, and `none`."
    elif quantization == "bf16":
        text += " With `none` it computes in bf16 where the processor can."
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
