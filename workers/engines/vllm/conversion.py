"""A request in vLLM's words, and what vLLM makes in ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vllm.outputs import CompletionOutput, RequestOutput
from vllm.sampling_params import RequestOutputKind, SamplingParams, StructuredOutputsParams

from workers.engines.base import Likely, Sampling, SequenceOutput, SequenceRequest, TokenLogprob, fresh_seed

_FINISH = {None: None, "stop": "stop", "length": "length"}


def params_of(sampling: Sampling, request: SequenceRequest, *, keeps_noise: bool) -> SamplingParams:
    """How it is sampled. `keeps_noise`: what is drawn depends on the seed and the place in the text alone.

    Raises: ValueError, VLLMClientError.
    """
    generated = 0 if keeps_noise else request.generated
    return SamplingParams(
        temperature=0.0 if sampling.greedy else sampling.temperature,
        top_p=1.0 if sampling.greedy else sampling.top_p,
        top_k=sampling.top_k,
        min_p=sampling.min_p,
        seed=None if sampling.seed is None else fresh_seed(sampling.seed, generated),
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


def output_of(request: SequenceRequest, made: RequestOutput) -> SequenceOutput:
    """What one step has made for a sequence."""
    one: CompletionOutput = made.outputs[0]
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
        _FINISH.get(one.finish_reason, "failed"),
        likely=likely,
        prompt=_of_prompt(made, sampling) if sampling.prompt_logprobs else None,
    )


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
