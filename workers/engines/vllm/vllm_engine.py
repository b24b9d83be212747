"""Continuous batching by vLLM, with a paged KV cache, prefix sharing, and prompts in pieces."""

from __future__ import annotations

import logging
import multiprocessing
import os
import threading
from collections.abc import Mapping, Sequence
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from vllm.engine.arg_utils import EngineArgs
from vllm.inputs import TokensPrompt
from vllm.outputs import CompletionOutput, RequestOutput
from vllm.sampling_params import RequestOutputKind, SamplingParams, StructuredOutputsParams
from vllm.v1.engine.llm_engine import LLMEngine

from workers.engines.base import (
    EngineConfig,
    EngineInfo,
    EngineRequestError,
    Likely,
    Report,
    Sampling,
    SequenceOutput,
    SequenceRequest,
    TokenLogprob,
    fresh_seed,
    no_report,
    require,
    require_room,
    warm_up,
)
from workers.engines.batch_engine import BatchEngine
from workers.engines.vllm.arguments import claim_devices, devices, engine_args
from workers.engines.weights import weights_digest

log = logging.getLogger("headrace.engine")

#: What one request may ask for.
_CAN = frozenset({"top_p", "top_k", "min_p", "seed", "logprobs", "top_logprobs", "prompt_logprobs", "logit_bias"}) | {
    *("presence_penalty", "frequency_penalty", "repetition_penalty", "grammar")
}
#: vLLM's own priorities: the lower is first.
FIRST, YIELDING = 0, 1


class VllmEngine(BatchEngine[SequenceRequest]):
    """One vLLM engine in this process."""

    def __init__(self, config: EngineConfig, report: Report = no_report) -> None:
        super().__init__()
        report("model_initialization", 0, 1)
        claim_devices(config)
        self._engine = LLMEngine.from_engine_args(EngineArgs(**engine_args(config)))
        self._engine.collective_rpc("unlink_meeting_place")
        if children := multiprocessing.active_children():
            threading.Thread(target=_end_with, args=(children,), daemon=True).start()
        report("model_initialization", 1, 1)
        made = self._engine.vllm_config
        cache = made.cache_config
        self._capacity = (int(cache.num_gpu_blocks or 1) - 1) * int(cache.block_size)
        self._vocabulary = int(made.model_config.get_vocab_size())
        slowest_s = warm_up(self, report)
        effective = {
            "attention": "paged",
            "quantization": made.model_config.quantization or config.quantization,
            "dtype": str(made.model_config.dtype).removeprefix("torch."),
            "devices": devices(config),
            "kv_cache": True,
            "kv_capacity_tokens": self._capacity,
        }
        digest = weights_digest(Path(config.model_path))
        self.info = EngineInfo("vllm", config.context_length, digest, sorted(_CAN), effective, slowest_s)

    def add(self, request: SequenceRequest) -> None:
        """Admit a sequence. Raises: EngineRequestError."""
        sampling = require(request, _CAN, "vllm", vocabulary=self._vocabulary)
        require_room(request, sampling, self._capacity)
        try:
            params = _params(sampling, request)
        except ValueError as error:
            raise EngineRequestError(f"vLLM refuses this: {error}") from error
        priority = YIELDING if request.yields else FIRST
        prompt = TokensPrompt(prompt_token_ids=list(request.prompt_ids))
        self._engine.add_request(str(request.sequence_id), prompt, params, priority=priority)
        self._held[request.sequence_id] = request

    def _withdraw(self, sequence_id: int, held: SequenceRequest) -> None:
        self._engine.abort_request([str(sequence_id)])

    def _advance(self) -> list[SequenceOutput]:
        """One forward pass."""
        if not self._engine.has_unfinished_requests():
            return []
        outputs = []
        for made in self._engine.step():
            if isinstance(made, RequestOutput) and (request := self._held.get(int(made.request_id))):
                outputs.append(_output(request, made))
                if made.finished:
                    del self._held[request.sequence_id]
        return outputs


def _end_with(children: Sequence[BaseProcess]) -> None:
    """The processes that share a model live and die together. They end with this one by themselves."""
    connection.wait([child.sentinel for child in children])
    log.error("a process that shares the model has ended, and the engine ends with it")
    os._exit(1)


def _params(sampling: Sampling, request: SequenceRequest) -> SamplingParams:
    """Raises: ValueError."""
    return SamplingParams(
        temperature=0.0 if sampling.greedy else sampling.temperature,
        top_p=1.0 if sampling.greedy else sampling.top_p,
        top_k=sampling.top_k,
        min_p=sampling.min_p,
        seed=None if sampling.seed is None else fresh_seed(sampling.seed, request.generated),
        presence_penalty=sampling.presence_penalty,
        frequency_penalty=sampling.frequency_penalty,
        repetition_penalty=sampling.repetition_penalty,
        logit_bias={int(token_id): bias for token_id, bias in sampling.logit_bias.items()} or None,
        logprobs=sampling.top_logprobs if sampling.logprobs or sampling.top_logprobs else None,
        prompt_logprobs=sampling.top_logprobs if sampling.prompt_logprobs else None,
        stop_token_ids=list(request.eos_ids),
        ignore_eos=True,
        max_tokens=max(1, sampling.max_tokens),
        structured_outputs=StructuredOutputsParams(grammar=sampling.grammar) if sampling.grammar else None,
        detokenize=False,
        output_kind=RequestOutputKind.DELTA,
        skip_clone=True,
    )


def _output(request: SequenceRequest, made: RequestOutput) -> SequenceOutput:
    (one,) = made.outputs
    sampling = request.sampling
    assert sampling
    ids = list(one.token_ids)[: sampling.max_tokens]  # none were asked for where only the prompt counts
    logprobs = [at[i].logprob for i, at in zip(ids, one.logprobs or (), strict=False)] if sampling.logprobs else None
    likely = None
    if sampling.top_logprobs:
        likely = [_likely(at, sampling.top_logprobs) for at in (one.logprobs or ())[: len(ids)]]
    return SequenceOutput(
        request.sequence_id,
        ids,
        logprobs,
        _reason(one),
        likely=likely,
        prompt=_of_prompt(made, sampling) if sampling.prompt_logprobs else None,
    )


def _reason(one: CompletionOutput) -> str | None:
    return None if one.finish_reason is None else {"stop": "stop", "length": "length"}.get(one.finish_reason, "failed")


def _likely(at: Mapping[int, Any], count: int) -> list[Likely]:
    """The likeliest tokens at one place, the best first. vLLM adds the chosen one if it is not among them."""
    best = sorted(at.items(), key=lambda pair: pair[1].rank or 0)
    return [Likely(token_id, one.logprob) for token_id, one in best if (one.rank or 0) <= count]


def _of_prompt(made: RequestOutput, sampling: Sampling) -> list[TokenLogprob] | None:
    if made.prompt_logprobs is None:
        return None
    found = []
    for token_id, at in zip(made.prompt_token_ids or (), made.prompt_logprobs, strict=False):
        found.append(
            TokenLogprob(at[token_id].logprob, _likely(at, sampling.top_logprobs)) if at else TokenLogprob(None, ())
        )
    return found
