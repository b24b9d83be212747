"""Loads a model into OpenVINO GenAI's pipeline: from which files, and with which properties of the device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import openvino
import openvino_genai
from openvino import opset13 as ops

from workers.engines.base import EngineConfig, Report
from workers.engines.failures import LoadFailed, Reason
from workers.engines.openvino.copies import COMPRESSED, compressed, writable
from workers.engines.openvino.exports import PARTS, exported, needs_export

#: Tokens of one block of the KV cache on a CPU, and on a GPU.
CPU_BLOCK_TOKENS, GPU_BLOCK_TOKENS = 32, 16
#: Prompt and decode tokens that one step may hold.
MAX_BATCHED_TOKENS = 512
PRECISION, THREADS = "INFERENCE_PRECISION_HINT", "INFERENCE_NUM_THREADS"
#: With these a device computes nothing in fewer bits, nor keeps anything so.
_IN_32_BITS = {PRECISION: "f32", "KV_CACHE_PRECISION": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"}
#: OpenVINO tells these apart by their text only.
_LOAD_ERRORS = {
    "unordered_map::at": Reason.UNSUPPORTED_ARCHITECTURE,
    "Unsupported model architecture": Reason.UNSUPPORTED_ARCHITECTURE,
    "Could not find a model in the directory": Reason.MISSING_FILE,
    "Unsupported property": Reason.UNSUPPORTED_OPTION,
}


@dataclass(frozen=True)
class InForce:
    """What a device makes of its properties."""

    #: The type that it computes in, such as `bf16`; `dynamic`: that of each operation in the model.
    dtype: str
    #: Whether it does all in 32 bits: keys and values, and what is quantized on the way, too.
    in_32_bits: bool
    #: Of the processor; 0 on a GPU.
    threads: int


@dataclass(frozen=True)
class Loaded:
    """A pipeline, and how it computes."""

    pipeline: Any
    #: How many token ids the model has. For a larger one the pipeline would take another without a word.
    vocabulary: int
    #: Where its tokenizer lies.
    path: str
    in_force: InForce


def load(config: EngineConfig, report: Report) -> Loaded:
    """The pipeline over weights as they are stored, or compressed or exported ones. Raises: LoadFailed."""
    total = 1 + PARTS if needs_export(Path(config.model_path)) else 1
    report("model_initialization", 0, total)
    properties = dict(config.options.get("properties", {}))
    found = in_force(config.device, properties)
    if found.threads == 1 and found.dtype == "bf16" and PRECISION not in properties:
        # Where the processor has AMX, OpenVINO shares 16-bit layers out to pairs of threads, and one thread ends it.
        properties = {**properties, PRECISION: "f32"}
        found = in_force(config.device, properties)
    if total > 1:
        made = exported(config, lambda part: report("model_initialization", part, total))
        config = replace(config, model_path=str(made), quantization="none")
    pipeline = _loaded(replace(config, options={**config.options, "properties": properties}))
    report("model_initialization", total, total)
    return Loaded(pipeline, _vocabulary(Path(config.model_path), pipeline), config.model_path, found)


def in_force(device: str, properties: Mapping[str, Any]) -> InForce:
    """As a model that computes nothing has it. Raises: LoadFailed if the device refuses a property."""
    core = openvino.Core()
    known = core.get_property(device, "SUPPORTED_PROPERTIES")
    value = ops.parameter([1], openvino.Type.f32)
    try:
        # Others are for the pipeline.
        compiled = core.compile_model(
            openvino.Model([ops.result(value)], [value]),
            device,
            {name: value for name, value in properties.items() if name in known},
        )
    except RuntimeError as error:
        raise LoadFailed(
            Reason.UNSUPPORTED_OPTION, f"The device does not take options.properties: {_last_line(error)}"
        ) from error
    values = {name: _word(compiled.get_property(name)) for name in (*_IN_32_BITS, THREADS) if name in known}
    return InForce(values[PRECISION], _IN_32_BITS.items() <= values.items(), int(values.get(THREADS, 0)))


def _word(value: Any) -> str:
    return value.to_string() if isinstance(value, openvino.Type) else str(value)


def kv_blocks(config: EngineConfig) -> int:
    """Of the KV cache."""
    return config.kv_blocks(block_tokens(config))


def block_tokens(config: EngineConfig) -> int:
    """Of one block of the KV cache."""
    return GPU_BLOCK_TOKENS if config.device.upper().startswith("GPU") else CPU_BLOCK_TOKENS


def _loaded(config: EngineConfig) -> Any:
    folder = Path(config.model_path)
    if config.quantization == "none":
        with writable(folder) as path:
            return _pipeline(replace(config, model_path=str(path)))
    if config.quantization not in COMPRESSED or not folder.is_dir():
        raise LoadFailed(
            Reason.BAD_QUANTIZATION,
            f"The openvino engine can't make {config.quantization} of {folder.name}: it makes "
            f"{', '.join(COMPRESSED)} of OpenVINO IR folders, and runs GGUF files as they are stored.",
        )
    with compressed(folder, config.quantization) as copy:
        return _pipeline(replace(config, model_path=str(copy)))


def _pipeline(config: EngineConfig) -> Any:
    """Raises: LoadFailed for what OpenVINO can't read, or its own RuntimeError."""
    scheduler = openvino_genai.SchedulerConfig()
    scheduler.max_num_seqs = config.max_batch_size
    scheduler.max_num_batched_tokens = MAX_BATCHED_TOKENS
    scheduler.num_kv_blocks = kv_blocks(config)
    scheduler.dynamic_split_fuse = True
    scheduler.enable_prefix_caching = True
    properties = dict(config.options["properties"])
    try:
        return openvino_genai.ContinuousBatchingPipeline(config.model_path, scheduler, config.device, properties, {})
    except (RuntimeError, IndexError) as error:
        for text, reason in _LOAD_ERRORS.items():
            if text in str(error):
                name = Path(config.model_path).name
                raise LoadFailed(reason, f"OpenVINO can't load {name}: {_last_line(error)}") from error
        raise


def _vocabulary(path: Path, pipeline: Any) -> int:
    if path.is_dir():  # the last size of the logits, (B, T, vocabulary); its tokenizer may not be there
        return int(openvino.Core().read_model(path / "openvino_model.xml").output(0).partial_shape[-1].get_length())
    return len(pipeline.get_tokenizer().get_vocab())


def _last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1]
