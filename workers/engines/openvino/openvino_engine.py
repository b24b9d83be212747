"""OpenVINO GenAI's continuous batching pipeline as an engine: paged KV cache, prefix sharing, CPU and Intel GPU.

Reads GGUF files and OpenVINO IR folders, and has IR made of safetensors. Stop strings are not its business; it gets ids
and gives ids. Options: `properties` for the OpenVINO device.
"""

from __future__ import annotations

import itertools
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy
import openvino
import openvino_genai

from workers.engines.base import (
    EngineConfig,
    EngineInfo,
    EngineRequestError,
    Report,
    Sampling,
    SequenceOutput,
    SequenceRequest,
    fresh_seed,
    no_report,
    require,
    require_room,
    warm_up,
)
from workers.engines.batch_engine import BatchEngine
from workers.engines.grammars.compiling import Compiling
from workers.engines.grammars.openvino_grammars import OpenVinoGrammars
from workers.engines.grammars.stand_in import structured
from workers.engines.openvino.loading import MAX_BATCHED_TOKENS, block_tokens, kv_blocks, load
from workers.engines.prefill import AnswerLengths, CacheRoom, Prefill, PrefixIndex, Prompt
from workers.engines.weights import weights_digest

log = logging.getLogger("headrace.engine")

#: What one request may ask for.
_CAN = frozenset({"top_p", "top_k", "min_p", "seed", "logprobs", "grammar"}) | {
    *("presence_penalty", "frequency_penalty", "repetition_penalty")
}
_FINISH = {
    openvino_genai.GenerationFinishReason.STOP: "stop",
    openvino_genai.GenerationFinishReason.LENGTH: "length",
}
_LEFT_OUT = "The engine has left it out: its cache may have no room for so long a prompt."
#: The library takes no 1.
MOST_MIN_P = 0.999999
#: Pieces of prompts are requests with ids of their own, which no sequence has.
FIRST_PIECE_ID = 2**41
#: Processor time that grammars may take in one step, all sequences together. One that takes more has its turn alone.
FORMS_S = 0.03
#: Grammars that take less are not counted: most do, of which this is the noise.
CHEAP_S = 0.003
#: How long a step waits for a grammar if nothing else is to be done.
COMPILE_WAIT_S = 0.05


@dataclass
class Held:
    """A sequence. Its prompt is computed in pieces, of which the last is the request that makes the answer."""

    #: The prompt, and what was made behind it.
    ids: list[int]
    prompt_tokens: int
    #: OpenVINO's own GenerationConfig.
    generation: Any
    #: Names of the prompt's blocks.
    blocks: Sequence[int]
    #: See `SequenceRequest`.
    yields: bool = False
    #: Tokens of the prompt that the cache has; and that it had when the sequence began, until that was told.
    done: int = 0
    cached: int = 0
    #: Where the piece ends that is being computed; 0: none is.
    piece_end: int = 0
    #: Of the piece, or of the request itself.
    handle: Any = None
    #: The cache keeps room for all of it.
    begun: bool = False
    #: Its grammar is compiled, if it has one.
    compiled: bool = True
    #: Processor time that its grammar takes for each token.
    form_s: float = 0.0

    @property
    def has_grammar(self) -> bool:
        """Whether its answer has a form."""
        return self.generation.structured_output_config is not None

    @property
    def is_answering(self) -> bool:
        """Its prompt is with the pipeline as a whole."""
        return self.handle is not None and not self.piece_end


class OpenVinoEngine(BatchEngine[Held]):
    """One pipeline, and the sequences that it computes or that wait for it."""

    def __init__(self, config: EngineConfig, report: Report = no_report) -> None:
        super().__init__()
        self._cache = CacheRoom[int](kv_blocks(config) * block_tokens(config))
        loaded = load(config, report)
        self._pipeline, self._vocabulary = loaded.pipeline, loaded.vocabulary
        self._block_tokens = block_tokens(config)
        self._prefill = Prefill(block_tokens=self._block_tokens, max_step_tokens=MAX_BATCHED_TOKENS)
        self._prefixes = PrefixIndex(block_tokens=self._block_tokens, num_blocks=kv_blocks(config))
        self._answers = AnswerLengths()
        self._piece_ids = itertools.count(FIRST_PIECE_ID)
        self._grammars = OpenVinoGrammars.of(self._pipeline, loaded.path, self._vocabulary)
        self._compiling = Compiling[float]()
        slowest_s = warm_up(self, report)
        digest = weights_digest(config)
        effective = {
            "attention": "paged",
            "quantization": config.quantization,
            "devices": [config.device],
            "dtype": loaded.in_force.dtype,
            "in_32_bits": loaded.in_force.in_32_bits,
            "threads": loaded.in_force.threads,
            "kv_cache": True,
            "kv_capacity_tokens": self._cache.capacity,
            # The cache is made with the first step.
            "kv_cache_bytes": self._pipeline.get_metrics().kv_cache_size_in_bytes,
        }
        self.info = EngineInfo("openvino", config.context_length, digest, sorted(_CAN), effective, slowest_s)

    def add(self, request: SequenceRequest) -> None:
        """Admit a sequence. Raises: EngineRequestError."""
        sampling = require(request, _CAN, "openvino", vocabulary=self._vocabulary)
        require_room(request, sampling, self._cache.capacity)
        generation = _generation_config(sampling, request.eos_ids, generated=request.generated)
        generation.validate()
        ids, grammar = list(request.prompt_ids), sampling.grammar
        held = Held(ids, len(ids), generation, self._prefixes.names(ids), request.yields, compiled=not grammar)
        if grammar:
            self._compiling.start(request.sequence_id, self._compiler(grammar, request.eos_ids))
        self._held[request.sequence_id] = held

    def _compiler(self, grammar: str, eos_ids: Sequence[int]) -> Callable[[], float]:
        """What compiles a grammar. Raises: EngineRequestError."""
        grammars = self._grammars
        if grammars is None:
            raise EngineRequestError("This model has no tokenizer that grammars can be used with.")
        if not eos_ids:
            raise EngineRequestError("A grammar needs a token that ends the answer, and this model has none.")
        return lambda: grammars.compile(grammar)

    def kv_used_tokens(self) -> int:
        """Those of the sequences that have begun."""
        return sum(len(held.ids) for held in self._held.values() if held.begun)

    def close(self) -> None:
        """End the process that tries grammars."""
        if self._grammars:
            self._grammars.close()

    def _withdraw(self, sequence_id: int, held: Held) -> None:
        """Its cache blocks are free at the next step."""
        self._compiling.forget(sequence_id)
        if held.handle is not None:
            held.handle.cancel()

    def _advance(self) -> list[SequenceOutput]:
        """One forward pass. It holds the GIL throughout."""
        refused = self._take_compiled()
        answering = [held for held in self._held.values() if held.is_answering]
        decoding, yielding = len(answering), sum(held.yields for held in answering)
        tokens, outputs = self._feed(decoding, yielding)
        begun = time.monotonic()
        if self._pipeline.has_non_finished_requests():
            self._pipeline.step()
        self._prefill.pace.note(time.monotonic() - begun, tokens=tokens, decoding=decoding > 0)
        over, outputs = not self._pipeline.has_non_finished_requests(), refused + outputs
        for sequence_id, held in list(self._held.items()):
            if held.handle is not None:
                outputs += self._taken(sequence_id, held, over=over)
        return outputs

    def _take_compiled(self) -> list[SequenceOutput]:
        """Sequences whose grammars are compiled may begin; those whose grammars can't be end."""
        if len(self._compiling) == len(self._held):
            self._compiling.wait(COMPILE_WAIT_S)
        refused = []
        for sequence_id, outcome in self._compiling.finished():
            if isinstance(outcome, EngineRequestError):
                del self._held[sequence_id]
                refused.append(SequenceOutput(sequence_id, [], None, "error", str(outcome)))
            else:
                held = self._held[sequence_id]
                held.compiled, held.form_s = True, outcome if outcome > CHEAP_S else 0.0
        if self._grammars and not any(
            held.has_grammar and held.compiled and held.handle is None for held in self._held.values()
        ):
            self._grammars.tidy()
        return refused

    def _feed(self, decoding: int, yielding: int) -> tuple[int, list[SequenceOutput]]:
        """Give the pipeline what it is to compute of the prompts in this step, and no more.

        Returns how many tokens that are, and the ends of those that it does not take.
        """
        if any(held.piece_end for held in self._held.values()):  # the cache had no room for it yet
            return 0, []
        waiting = {i: held for i, held in self._held.items() if held.handle is None and held.compiled}
        for held in waiting.values():
            held.done = max(held.done, min(self._prefixes.tokens(held.blocks), len(held.ids) - 1))
        waiting = self._affordable(waiting)
        plan = self._prefill.plan(self._fitting(waiting), decoding=decoding, yielding=yielding)
        refused = []
        for sequence_id, tokens in plan.items():
            try:
                self._give(sequence_id, waiting[sequence_id], tokens)
            except Exception as error:
                log.exception("sequence %d can't be computed", sequence_id)
                del self._held[sequence_id]
                refused.append(_failed(sequence_id, error))
        return sum(plan.values()), refused

    def _affordable(self, waiting: Mapping[int, Held]) -> dict[int, Held]:
        """Without those whose grammars would slow all others now: they wait until such that have begun have ended."""
        spent = sum(held.form_s for held in self._held.values() if held.begun)
        chosen = {}
        for sequence_id, held in waiting.items():
            if held.begun or not held.form_s or not spent or spent + held.form_s <= FORMS_S:
                chosen[sequence_id] = held
                spent += 0 if held.begun else held.form_s
        return chosen

    def _fitting(self, waiting: Mapping[int, Held]) -> list[Prompt]:
        """Those that have begun, or may begin."""
        taken = sum(self._room(held) for held in self._held.values() if held.begun)
        new = {i: self._room(held) for i, held in waiting.items() if not held.begun}
        fitting = set(self._cache.fitting(new, taken=taken))
        return [
            Prompt(i, len(held.ids) - held.done, held.yields)
            for i, held in waiting.items()
            if held.begun or i in fitting
        ]

    def _room(self, held: Held) -> int:
        """Tokens of the blocks that a sequence has, or is expected to need."""
        made, most = len(held.ids) - held.prompt_tokens, held.generation.max_new_tokens
        tokens = held.prompt_tokens + self._answers.expected(made=made, max_tokens=most)
        return -(-tokens // self._block_tokens) * self._block_tokens

    def _give(self, sequence_id: int, held: Held, tokens: int) -> None:
        """A piece is a request for one token, which nobody reads; the next finds its blocks in the cache."""
        if not held.begun:
            held.begun, held.cached = True, held.done
        end = held.done + tokens
        if end == len(held.ids):
            held.handle = self._request(sequence_id, held.ids, held.generation)
        else:
            held.handle, held.piece_end = self._request(next(self._piece_ids), held.ids[:end], _PIECE), end
        self._prefixes.add(held.blocks[: end // self._block_tokens])

    def _request(self, request_id: int, ids: Sequence[int], generation: Any) -> Any:
        tensor = openvino.Tensor(numpy.array([ids], dtype=numpy.int64))
        return self._pipeline.add_request(request_id, tensor, generation)

    def _taken(self, sequence_id: int, held: Held, *, over: bool) -> list[SequenceOutput]:
        """What a sequence has made in this step."""
        made = _read(sequence_id, held.handle)
        if over and not (made and made[-1].finish_reason):  # the pipeline has left it out
            made.append(SequenceOutput(sequence_id, [], None, "failed", _LEFT_OUT))
        finish = made[-1].finish_reason if made else None
        if held.piece_end and finish != "failed":
            if finish:
                held.done, held.piece_end, held.handle = held.piece_end, 0, None
            return []
        if made and held.cached:
            made[0], held.cached = made[0]._replace(cached=held.cached), 0
        for output in made:
            held.ids += output.token_ids
        if finish:
            del self._held[sequence_id]
            self._prefixes.add(self._prefixes.names(held.ids[:-1]))  # the last was not computed
            self._answers.note(len(held.ids) - held.prompt_tokens)
        return made


def _failed(sequence_id: int, error: Exception) -> SequenceOutput:
    return SequenceOutput(sequence_id, [], None, "failed", f"The engine failed: {error!r:.300}")


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
        return [_failed(sequence_id, error)]


def _generation_config(sampling: Sampling, eos_ids: Sequence[int], *, generated: int) -> Any:
    config = openvino_genai.GenerationConfig()
    config.max_new_tokens = sampling.max_tokens
    config.stop_token_ids = set(eos_ids)
    config.presence_penalty = sampling.presence_penalty
    config.frequency_penalty = sampling.frequency_penalty
    config.repetition_penalty = sampling.repetition_penalty
    config.logprobs = int(sampling.logprobs)
    if sampling.grammar:
        config.structured_output_config = structured(sampling.grammar)
    config.do_sample = not sampling.greedy
    if config.do_sample:
        config.temperature = sampling.temperature
        config.top_p = sampling.top_p
        config.min_p = min(sampling.min_p, MOST_MIN_P)
        if sampling.top_k:
            config.top_k = sampling.top_k
        seed = sampling.seed if sampling.seed is not None else int.from_bytes(os.urandom(4), "little")
        config.rng_seed = fresh_seed(seed, generated)
    return config


#: What a piece of a prompt is asked for.
_PIECE = _generation_config(Sampling(max_tokens=1, temperature=0.0), [], generated=0)
