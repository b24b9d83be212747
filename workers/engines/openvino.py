"""OpenVINO GenAI's continuous batching pipeline as an engine: paged KV cache, prefix sharing, CPU and Intel GPU.

Reads GGUF files and OpenVINO IR folders. Stop strings are not its business; it gets ids and gives ids.
Options: `properties` for the OpenVINO device.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy
import openvino
import openvino_genai

from workers.engines.base import (
    EngineConfig,
    EngineInfo,
    Report,
    Sampling,
    SequenceOutput,
    SequenceRequest,
    no_report,
    require,
    require_room,
    warm_up,
)
from workers.engines.batch_engine import BatchEngine
from workers.engines.compression import COMPRESSED, compressed
from workers.engines.failures import LoadFailed, Reason
from workers.engines.weights import weights_digest

log = logging.getLogger("headrace.engine")

#: What one request may ask for.
_CAN = frozenset({"top_p", "top_k", "seed", "presence_penalty", "frequency_penalty", "repetition_penalty", "logprobs"})
_FINISH = {
    openvino_genai.GenerationFinishReason.STOP: "stop",
    openvino_genai.GenerationFinishReason.LENGTH: "length",
}
_LEFT_OUT = "The engine has left it out: its cache may have no room for so long a prompt."
#: Tokens of one block of the KV cache on a CPU, and on a GPU.
CPU_BLOCK_TOKENS, GPU_BLOCK_TOKENS = 32, 16
#: Prompt and decode tokens that one step may hold.
MAX_BATCHED_TOKENS = 512
#: OpenVINO tells these apart by their text only.
_LOAD_ERRORS = {
    "unordered_map::at": Reason.UNSUPPORTED_ARCHITECTURE,
    "Unsupported model architecture": Reason.UNSUPPORTED_ARCHITECTURE,
    "Could not find a model in the directory": Reason.MISSING_FILE,
}


class OpenVinoEngine(BatchEngine[Any]):
    """One pipeline and the handles of its sequences."""

    def __init__(self, config: EngineConfig, report: Report = no_report) -> None:
        super().__init__()
        report("model_initialization", 0, 1)
        #: Tokens that the KV cache holds.
        self._capacity = _kv_blocks(config) * _block_tokens(config)
        self._pipeline = _loaded(config)
        report("model_initialization", 1, 1)
        self._vocabulary = _vocabulary(Path(config.model_path), self._pipeline)
        slowest_s = warm_up(self, report)
        digest = weights_digest(Path(config.model_path))
        effective = {
            "attention": "paged",
            "quantization": config.quantization,
            "devices": [config.device],
            "kv_cache": True,
            "kv_capacity_tokens": self._capacity,
            # The cache is made with the first step.
            "kv_cache_bytes": self._pipeline.get_metrics().kv_cache_size_in_bytes,
        }
        self.info = EngineInfo("openvino", config.context_length, digest, sorted(_CAN), effective, slowest_s)

    def add(self, request: SequenceRequest) -> None:
        """Admit a sequence. Raises: EngineRequestError."""
        sampling = require(request, _CAN, "openvino", vocabulary=self._vocabulary)
        require_room(request, sampling, self._capacity)
        ids = openvino.Tensor(numpy.array([request.prompt_ids], dtype=numpy.int64))
        self._held[request.sequence_id] = self._pipeline.add_request(
            request.sequence_id, ids, _generation_config(sampling, request.eos_ids)
        )

    def _withdraw(self, sequence_id: int, held: Any) -> None:
        """Its cache blocks are free at the next step."""
        held.cancel()

    def _advance(self) -> list[SequenceOutput]:
        """One forward pass. It holds the GIL throughout."""
        outputs: list[SequenceOutput] = []
        if self._pipeline.has_non_finished_requests():
            self._pipeline.step()
        over = not self._pipeline.has_non_finished_requests()
        for sequence_id, handle in list(self._held.items()):
            made = _read(sequence_id, handle)
            if over and not (made and made[-1].finish_reason):  # the pipeline has left it out
                made.append(SequenceOutput(sequence_id, [], None, "failed", _LEFT_OUT))
            if made and made[-1].finish_reason:
                del self._held[sequence_id]
            outputs += made
        return outputs


def _read(sequence_id: int, handle: Any) -> list[SequenceOutput]:
    """What a sequence has made since it was read last. What the library raises for it is its end."""
    try:
        parts = list(handle.read().values()) if handle.can_read() else []
        return [
            SequenceOutput(
                sequence_id,
                list(part.generated_ids),
                [float(x) for x in part.generated_log_probs],
                _FINISH.get(part.finish_reason),
            )
            for part in parts
        ]
    except Exception as error:
        log.exception("sequence %d can't be read", sequence_id)
        return [SequenceOutput(sequence_id, [], None, "failed", f"The engine failed: {error!r:.300}")]


def _loaded(config: EngineConfig) -> Any:
    """The pipeline over weights as they are stored, or compressed ones. Raises: LoadFailed."""
    folder = Path(config.model_path)
    if config.quantization == "none":
        return _pipeline(config)
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
    scheduler.num_kv_blocks = _kv_blocks(config)
    scheduler.dynamic_split_fuse = True
    scheduler.enable_prefix_caching = True
    properties = dict(config.options.get("properties", {}))
    try:
        return openvino_genai.ContinuousBatchingPipeline(config.model_path, scheduler, config.device, properties, {})
    except (RuntimeError, IndexError) as error:
        for text, reason in _LOAD_ERRORS.items():
            if text in str(error):
                name = Path(config.model_path).name
                raise LoadFailed(reason, f"OpenVINO can't read {name}: {_last_line(error)}") from error
        raise


def _kv_blocks(config: EngineConfig) -> int:
    return config.kv_blocks(_block_tokens(config))


def _block_tokens(config: EngineConfig) -> int:
    return GPU_BLOCK_TOKENS if config.device.upper().startswith("GPU") else CPU_BLOCK_TOKENS


def _vocabulary(path: Path, pipeline: Any) -> int:
    """How many token ids the model has. For a larger one the pipeline would take another without a word."""
    if path.is_dir():  # the last size of the logits, (B, T, vocabulary); its tokenizer may not be there
        return int(openvino.Core().read_model(path / "openvino_model.xml").output(0).partial_shape[-1].get_length())
    return len(pipeline.get_tokenizer().get_vocab())


def _last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1]


def _generation_config(sampling: Sampling, eos_ids: Sequence[int]) -> Any:
    config = openvino_genai.GenerationConfig()
    config.max_new_tokens = sampling.max_tokens
    config.stop_token_ids = set(eos_ids)
    config.presence_penalty = sampling.presence_penalty
    config.frequency_penalty = sampling.frequency_penalty
    config.repetition_penalty = sampling.repetition_penalty
    config.logprobs = int(sampling.logprobs)
    config.do_sample = not sampling.greedy
    if config.do_sample:
        config.temperature = sampling.temperature
        config.top_p = sampling.top_p
        if sampling.top_k:
            config.top_k = sampling.top_k
        seed = sampling.seed if sampling.seed is not None else int.from_bytes(os.urandom(4), "little")
        config.rng_seed = seed
    return config
