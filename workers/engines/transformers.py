"""transformers' continuous batching manager as an engine: paged KV cache, prefix sharing. Reads safetensors folders.

The manager steps in a thread of its own; `step` takes what it has made. Options: `cache_tokens` places of the KV cache,
`threads`.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, ContinuousBatchingConfig, GenerationConfig
from transformers.generation.continuous_batching.requests import GenerationOutput
from transformers.utils import logging

from gateway.engine_table import SPECS
from gateway.failures import DeploymentFailed, FailureReason
from workers.engines.base import (
    EngineConfig,
    EngineInfo,
    EngineRequestError,
    Report,
    Sampling,
    SequenceOutput,
    SequenceRequest,
    no_report,
    require,
)
from workers.engines.weights import weights_digest

_CAN = SPECS["transformers"].sampling
#: Prompt and decode tokens that one step may hold.
MAX_BATCHED_TOKENS = 512
PAGE_TOKENS = 32
CACHE_TOKENS = 16_384
#: Tokens of the sequence that warms the model up.
WARM_UP_STEPS = 4
#: How long `step` waits for the manager before it gives control back.
STEP_WAIT_S = 1.0
#: How long the manager may take to end.
CLOSE_WAIT_S = 30.0
_DTYPES = {"none": "auto", "bf16": "bfloat16"}


class TransformersEngine:
    """The model, its manager, and what each sequence has given so far."""

    def __init__(self, config: EngineConfig, report: Report = no_report) -> None:
        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        torch.set_num_threads(int(config.options.get("threads", 0)) or os.cpu_count() or 1)
        report("model_initialization", 0, 1)
        model = _model(config)
        report("model_initialization", 1, 1)
        self._vocabulary = int(model.config.vocab_size)
        self._manager = model.init_continuous_batching(_sampled(), _batching(config))
        #: Request, and how many of its tokens have been reported.
        self._sequences: dict[int, tuple[SequenceRequest, int]] = {}
        self._cancelled: list[int] = []
        _start(self._manager)
        self._warm_up(report)
        effective = {
            "attention": model.config._attn_implementation,
            "quantization": str(model.dtype).removeprefix("torch."),
            "devices": [str(model.device)],
            "threads": torch.get_num_threads(),
            "kv_cache": True,
        }
        digest = weights_digest(Path(config.model_path))
        self.info = EngineInfo("transformers", config.context_length, digest, sorted(_CAN), effective)

    def add(self, request: SequenceRequest) -> None:
        """Admit a sequence. Raises: EngineRequestError."""
        sampling = require(request, _CAN, "transformers")
        wrong = [i for i in request.prompt_ids if not 0 <= i < self._vocabulary]
        if wrong:
            raise EngineRequestError(f"It holds the token id {wrong[0]}; allowed: 0 to {self._vocabulary - 1}.")
        self._sequences[request.sequence_id] = (request, 0)
        self._manager.add_request(
            list(request.prompt_ids),
            request_id=str(request.sequence_id),
            max_new_tokens=sampling.max_tokens,
            streaming=True,
            # An empty list would mean the model's own.
            eos_token_id=list(request.eos_ids) or [-1],
            **self._processors(sampling),
        )

    def cancel(self, sequence_id: int) -> None:
        """Drop a sequence; its place is free at the manager's next step."""
        if self._sequences.pop(sequence_id, None):
            self._manager.cancel_request(str(sequence_id))
            self._cancelled.append(sequence_id)

    def has_work(self) -> bool:
        """Whether anything runs or is to be reported."""
        return bool(self._sequences or self._cancelled)

    def num_sequences(self) -> int:
        """Running and waiting sequences."""
        return len(self._sequences)

    def close(self) -> None:
        """End the manager's thread, which else keeps its process from ending."""
        self._manager.stop(hard_stop=True, timeout=CLOSE_WAIT_S)

    def step(self) -> list[SequenceOutput]:
        """Wait for what the manager makes next, and take all of it. Raises: RuntimeError if the manager has died."""
        outputs = [SequenceOutput(i, [], None, "cancelled") for i in self._cancelled]
        self._cancelled = []
        result = self._manager.get_result(timeout=STEP_WAIT_S) if self._sequences else None
        while result is not None:
            outputs += self._taken(result)
            made = self._manager.output_router.output_queue
            result = None if made.empty() else self._manager.get_result(timeout=0)
        if self._sequences and not self._manager.is_running():
            raise RuntimeError("transformers' continuous batching has stopped; its error lies in the log above")
        return outputs

    def _taken(self, result: GenerationOutput) -> list[SequenceOutput]:
        """What is new in a result, which holds all tokens since the start; nothing if it was cancelled meanwhile."""
        sequence_id = int(result.request_id)
        if sequence_id not in self._sequences:
            return []
        request, reported = self._sequences[sequence_id]
        tokens = list(result.generated_tokens[reported:])
        if not result.is_finished():
            self._sequences[sequence_id] = (request, reported + len(tokens))
            return [SequenceOutput(sequence_id, tokens)]
        del self._sequences[sequence_id]
        if result.error is not None:
            return [SequenceOutput(sequence_id, tokens, None, "error", result.error)]
        stopped = result.generated_tokens[-1:] and result.generated_tokens[-1] in request.eos_ids
        return [SequenceOutput(sequence_id, tokens, None, "stop" if stopped else "length")]

    def _processors(self, sampling: Sampling) -> dict[str, float | int]:
        """The manager samples all sequences or none: greedy is sampling from the one best token, ties broken."""
        if sampling.temperature == 0:
            return {"temperature": 1.0, "top_k": 1, "top_p": 0.0}
        return {
            "temperature": float(sampling.temperature),
            "top_k": sampling.top_k or self._vocabulary,
            "top_p": float(sampling.top_p),
        }

    def _warm_up(self, report: Report) -> None:
        """Make a few tokens, so that the first request finds memory that was touched."""
        self.add(SequenceRequest(0, [0], Sampling(max_tokens=WARM_UP_STEPS, temperature=0.0)))
        done = 0
        while self.has_work():
            report("model_loading", done, WARM_UP_STEPS)
            done += sum(len(output.token_ids) for output in self.step())
        report("model_loading", WARM_UP_STEPS, WARM_UP_STEPS)


def _start(manager: Any) -> None:
    """Start the manager's thread as a daemon, so that a process can end with it; it is one if its starter is one."""
    starter = threading.Thread(target=manager.start, daemon=True)
    starter.start()
    starter.join()


def _model(config: EngineConfig) -> Any:
    """Raises: DeploymentFailed for a quantization or an architecture that it does not have."""
    if config.quantization not in _DTYPES:
        raise DeploymentFailed(
            FailureReason.BAD_QUANTIZATION,
            f"The transformers engine can't make {config.quantization}; allowed: {', '.join(_DTYPES)}.",
        )
    device = config.device.lower()
    device = device if device.rstrip("0123456789") == device else f"{device.rstrip('0123456789')}:{device[-1]}"
    try:
        model = AutoModelForCausalLM.from_pretrained(
            config.model_path,
            dtype=_DTYPES[config.quantization],
            attn_implementation="sdpa",
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
        )
    except ValueError as error:
        raise DeploymentFailed(FailureReason.UNSUPPORTED_ARCHITECTURE, str(error)) from error
    placed: Any = model
    return placed.to("cpu" if device.startswith("cpu") else device).eval()


def _sampled() -> Any:
    """Each of the three has a value that makes the manager build its processor; every request brings its own."""
    return GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=True, temperature=0.5, top_k=50, top_p=0.5, eos_token_id=-1
    )


def _batching(config: EngineConfig) -> ContinuousBatchingConfig:
    on_cpu = config.device.lower().startswith("cpu")
    tokens = int(config.options.get("cache_tokens", min(config.max_batch_size * config.context_length, CACHE_TOKENS)))
    return ContinuousBatchingConfig(
        page_size=PAGE_TOKENS,
        num_blocks=max(tokens, config.context_length) // PAGE_TOKENS + 1,
        max_batch_tokens=MAX_BATCHED_TOKENS,
        max_requests_per_batch=config.max_batch_size,
        per_request_processors=True,
        auto_switch_to_flash=config.use_flash_attention and not on_cpu,
        # Both are means of CUDA.
        use_async_batching=False if on_cpu else None,
        use_cuda_graph=False if on_cpu else None,
    )
