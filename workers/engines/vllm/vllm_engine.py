"""Continuous batching by vLLM, with a paged KV cache, prefix sharing, and prompts in pieces."""

from __future__ import annotations

import logging
import multiprocessing
import os
import threading
from collections.abc import Sequence
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from vllm.config import VllmConfig
from vllm.engine.arg_utils import EngineArgs
from vllm.exceptions import VLLMClientError
from vllm.inputs import TokensPrompt
from vllm.outputs import RequestOutput
from vllm.v1.engine.llm_engine import LLMEngine

from workers.engines.base import (
    EngineConfig,
    EngineInfo,
    EngineRequestError,
    Report,
    SequenceOutput,
    SequenceRequest,
    no_report,
    require,
    require_room,
    warm_up,
)
from workers.engines.batch_engine import BatchEngine
from workers.engines.failures import LoadFailed, Reason
from workers.engines.pytorch.vocabulary import grammars_of
from workers.engines.vllm.adapters import Adapters
from workers.engines.vllm.arguments import claim_devices, devices, engine_args
from workers.engines.vllm.conversion import output_of, params_of
from workers.engines.vllm.forms import FormBackend
from workers.engines.weights import weights_digest

log = logging.getLogger("headrace.engine")

#: What one request may ask for.
_CAN = frozenset({"top_p", "top_k", "min_p", "seed", "logprobs", "top_logprobs", "prompt_logprobs", "logit_bias"}) | {
    *("presence_penalty", "frequency_penalty", "repetition_penalty", "grammar", "adapter")
}
#: vLLM's own priorities: the lower is first.
FIRST, YIELDING = 0, 1


class VllmEngine(BatchEngine[SequenceRequest]):
    """One vLLM engine in this process."""

    def __init__(self, config: EngineConfig, report: Report = no_report) -> None:
        super().__init__()
        #: Sequences of which there is no output yet.
        self._silent: set[int] = set()
        report("model_initialization", 0, 1)
        claim_devices(config)
        try:
            self._engine = LLMEngine.from_engine_args(EngineArgs(**engine_args(config)))
        except (ValueError, NotImplementedError) as error:
            text = " ".join(str(error).split())
            raise LoadFailed(Reason.UNSUPPORTED_OPTION, f"vLLM can't load it: {text:.1000}") from error
        self._engine.collective_rpc("unlink_meeting_place")
        if children := multiprocessing.active_children():
            threading.Thread(target=_end_with, args=(children,), daemon=True).start()
        report("model_initialization", 1, 1)
        made = self._engine.vllm_config
        cache = made.cache_config
        self._capacity = (int(cache.num_gpu_blocks or 1) - 1) * int(cache.block_size)
        #: The newer one of vLLM's runners does, which CUDA has.
        self._keeps_noise = bool(made.use_v2_model_runner)
        self._vocabulary = int(made.model_config.get_vocab_size())
        self._forms = self._with_forms(Path(config.model_path))
        self._adapters = Adapters(self._engine)
        slowest_s = warm_up(self, report)
        effective = {
            "attention": "paged",
            "quantization": made.model_config.quantization or config.quantization,
            "dtype": str(made.model_config.dtype).removeprefix("torch."),
            "in_32_bits": _in_32_bits(made),
            "devices": devices(config),
            "kv_cache": True,
            "kv_capacity_tokens": self._capacity,
        }
        digest = weights_digest(config)
        self.info = EngineInfo("vllm", config.context_length, digest, sorted(_CAN), effective, slowest_s)

    def add(self, request: SequenceRequest) -> None:
        """Admit a sequence. Raises: EngineRequestError."""
        sampling = require(request, _CAN, "vllm", vocabulary=self._vocabulary)
        require_room(request, sampling, self._capacity)
        if sampling.grammar:
            self._require_forms(request)
        adapter, priority = self._adapters.of(request.adapter), YIELDING if request.yields else FIRST
        prompt = TokensPrompt(prompt_token_ids=list(request.prompt_ids))
        try:
            params = params_of(sampling, request, keeps_noise=self._keeps_noise)
            self._engine.add_request(str(request.sequence_id), prompt, params, lora_request=adapter, priority=priority)
        except (ValueError, VLLMClientError) as error:
            raise EngineRequestError(f"vLLM refuses this: {error}") from error
        self._held[request.sequence_id] = request
        self._silent.add(request.sequence_id)

    def kv_used_tokens(self) -> int:
        """What running sequences hold; ended ones leave their blocks to whoever begins alike, or needs room."""
        cache = self._engine.engine_core.engine_core.scheduler.kv_cache_manager
        return round(float(cache.usage) * self._capacity)

    def _with_forms(self, folder: Path) -> FormBackend | None:
        """What vLLM's scheduler asks about grammars; None if it can follow none."""
        grammars = grammars_of(folder, self._vocabulary)
        if grammars is None or self._engine.vllm_config.speculative_config is not None:
            return None
        forms = FormBackend(grammars, self._vocabulary)
        self._engine.engine_core.engine_core.structured_output_manager.backend = forms
        return forms

    def _require_forms(self, request: SequenceRequest) -> None:
        if self._forms is None:
            raise EngineRequestError("Grammars need a tokenizer.json of byte-level BPE, and no speculative decoding.")
        if not request.eos_ids:
            raise EngineRequestError("A grammar needs a token that ends the answer, and this model has none.")

    def _withdraw(self, sequence_id: int, held: SequenceRequest) -> None:
        self._silent.discard(sequence_id)
        self._engine.abort_request([str(sequence_id)])

    def _advance(self) -> list[SequenceOutput]:
        """One forward pass."""
        if not self._engine.has_unfinished_requests():
            return []
        outputs = []
        for made in self._engine.step():
            if isinstance(made, RequestOutput) and (request := self._held.get(int(made.request_id))):
                output = output_of(request, made)
                if request.sequence_id in self._silent:
                    self._silent.remove(request.sequence_id)
                    output = output._replace(cached=made.num_cached_tokens or None)
                outputs.append(self._with_reason(output, request) if output.finish_reason == "failed" else output)
                if made.finished:
                    del self._held[request.sequence_id]
        return outputs

    def _with_reason(self, output: SequenceOutput, request: SequenceRequest) -> SequenceOutput:
        """vLLM does not say why it has ended one: of an answer with a form it is that."""
        if self._forms and request.sampling and request.sampling.grammar:
            return SequenceOutput(output.sequence_id, [], None, "error", self._forms.why(request.sampling.grammar))
        return output._replace(error="vLLM has ended it with an error.")


def _in_32_bits(made: VllmConfig) -> bool:
    """Whether nothing is computed in fewer bits, nor kept so."""
    model = made.model_config
    kept = str(made.cache_config.cache_dtype) in ("auto", "float32")
    return kept and model.quantization is None and str(model.dtype) == "torch.float32"


def _end_with(children: Sequence[BaseProcess]) -> None:
    """The processes that share a model live and die together. They end with this one by themselves."""
    connection.wait([child.sentinel for child in children])
    log.error("a process that shares the model has ended, and the engine ends with it")
    os._exit(1)
