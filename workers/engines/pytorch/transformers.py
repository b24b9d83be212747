"""transformers' continuous batching manager as an engine: paged KV cache, prefix sharing. Reads safetensors folders.

The manager steps in a thread of its own; `step` takes what it has made. Options: `threads` of each process.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers.generation.continuous_batching.requests import GenerationOutput

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
    require_room,
    warm_up,
)
from workers.engines.batch_engine import BatchEngine
from workers.engines.grammars.compiling import Compiling
from workers.engines.pytorch.extras import NEEDS, Extras, attach
from workers.engines.pytorch.forms import Form
from workers.engines.pytorch.loading import (
    QUANTIZED,
    check_shares,
    device_of,
    load_causal_lm,
    start_manager,
)
from workers.engines.pytorch.paced_scheduler import PAGE_TOKENS, YIELDS
from workers.engines.pytorch.ranks import RankGroup
from workers.engines.pytorch.vocabulary import grammars_of
from workers.engines.weights import weights_digest

#: What one request may ask for.
_CAN = frozenset({"top_p", "top_k", "grammar"}) | NEEDS
MIN_TEMPERATURE = 1e-3
#: How long `step` waits for the manager before it gives control back.
STEP_WAIT_S = 1.0
#: How long the manager may take to end.
CLOSE_WAIT_S = 30.0


@dataclass
class Held:
    """A sequence, and how many of its tokens have been reported."""

    request: SequenceRequest
    sampling: Sampling
    reported: int = 0
    #: Of a sequence with a grammar, once it is compiled.
    form: Form | None = None
    #: Of a sequence that needs any.
    extras: Extras | None = None


class TransformersEngine(BatchEngine[Held]):
    """The model, its manager, and what each sequence has given so far."""

    def __init__(self, config: EngineConfig, report: Report = no_report) -> None:
        super().__init__()
        self._warm_up_step_s = 0.0
        #: Tokens that the KV cache holds.
        self._capacity = config.kv_blocks(PAGE_TOKENS) * PAGE_TOKENS
        report("model_initialization", 0, 1)
        self._ranks: RankGroup | None = None
        if config.tensor_parallel_size > 1:
            check_shares(config)
            self._ranks = RankGroup(config)
            model = self._ranks.run(lambda: self._load(config, report))
        else:
            model = self._load(config, report)
        quantized = config.quantization if config.quantization in QUANTIZED else ""
        effective = {
            "attention": model.config._attn_implementation,
            "quantization": quantized or str(model.dtype).removeprefix("torch."),
            "devices": [str(device_of(config, rank)) for rank in range(config.tensor_parallel_size)],
            "threads": torch.get_num_threads(),
            "kv_cache": True,
            **self._kv_cache(),
        }
        digest = weights_digest(Path(config.model_path))
        length, slowest_s = config.context_length, self._warm_up_step_s
        self.info = EngineInfo("transformers", length, digest, sorted(_CAN), effective, slowest_s)

    def _load(self, config: EngineConfig, report: Report) -> Any:
        model = load_causal_lm(config)
        report("model_initialization", 1, 1)
        self._vocabulary = int(model.config.vocab_size)
        self._manager = start_manager(model, config)
        self._grammars = grammars_of(Path(config.model_path), self._vocabulary)
        self._compiling = Compiling[Form](self._wake)
        self._warm_up_step_s = warm_up(self, report)
        if config.tensor_parallel_size == 1:
            attach(self._manager)
        return model

    def add(self, request: SequenceRequest) -> None:
        """Admit a sequence. Raises: EngineRequestError."""
        can = _CAN - NEEDS if self._ranks else _CAN
        sampling = require(request, can, "transformers", vocabulary=self._vocabulary)
        require_room(request, sampling, self._capacity)
        held = self._held[request.sequence_id] = Held(request, sampling)
        if sampling.used() & NEEDS:
            held.extras = Extras(sampling, request.prompt_ids, generated=request.generated)
        if sampling.grammar:
            try:
                self._compiling.start(request.sequence_id, self._compiler(request, sampling.grammar))
            except EngineRequestError:
                del self._held[request.sequence_id]
                raise
        else:
            self._give(held)

    def _compiler(self, request: SequenceRequest, grammar: str) -> Callable[[], Form]:
        """What compiles a grammar. Raises: EngineRequestError."""
        grammars, eos_ids = self._grammars, request.eos_ids
        if grammars is None:
            raise EngineRequestError("This model has no tokenizer that grammars can be used with.")
        if not eos_ids:
            raise EngineRequestError("A grammar needs a token that ends the answer, and this model has none.")
        return lambda: Form(grammars.matcher(grammar), eos_ids)

    def _give(self, held: Held) -> None:
        """Let the manager have a sequence."""
        request = held.request
        self._manager.add_request(
            list(request.prompt_ids),
            request_id=_name(request),
            max_new_tokens=max(1, held.sampling.max_tokens),
            streaming=True,
            # An empty list would mean the model's own.
            eos_token_id=list(request.eos_ids) or [-1],
            **self._processors(held.sampling),
            **({"form": held.form} if held.form else {}),
            **({"extras": held.extras} if held.extras else {}),
        )

    def _wake(self) -> None:
        """A grammar is there: end the wait of `_advance`."""
        self._manager.output_router.output_queue.put(None)

    def _begin_compiled(self) -> list[SequenceOutput]:
        """Sequences whose grammars are there join; the others end."""
        refused = []
        for sequence_id, form in self._compiling.finished():
            if isinstance(form, EngineRequestError):
                del self._held[sequence_id]
                refused.append(SequenceOutput(sequence_id, [], None, "error", str(form)))
            else:
                held = self._held[sequence_id]
                held.form = form
                self._give(held)
        return refused

    def _withdraw(self, sequence_id: int, held: Held) -> None:
        """Its place is free at the manager's next step."""
        if not self._compiling.forget(sequence_id):
            self._manager.cancel_request(_name(held.request))

    def close(self) -> None:
        """End the manager's thread, and the other ranks."""
        if self._ranks:
            self._ranks.detach()
        self._manager.stop(hard_stop=True, timeout=CLOSE_WAIT_S)
        if self._ranks:
            self._ranks.close()

    def _advance(self) -> list[SequenceOutput]:
        """Wait for what the manager makes next, and take all of it. Raises: RuntimeError if the manager has died."""
        outputs = self._begin_compiled()
        if outputs:
            return outputs
        result = self._manager.get_result(timeout=STEP_WAIT_S) if self._held else None
        while result is not None:
            outputs += self._taken(result)
            made = self._manager.output_router.output_queue
            result = None if made.empty() else self._manager.get_result(timeout=0)
        if self._held and not self._manager.is_running():
            raise RuntimeError("transformers' continuous batching has stopped; its error lies in the log above")
        return outputs

    def _taken(self, result: GenerationOutput) -> list[SequenceOutput]:
        """What is new in a result, which holds all tokens since the start; nothing if it was cancelled meanwhile."""
        sequence_id = int(result.request_id.removesuffix(YIELDS))
        if sequence_id not in self._held:
            return []
        held = self._held[sequence_id]
        if held.form and held.form.error:
            self._withdraw(sequence_id, self._held.pop(sequence_id))
            return [SequenceOutput(sequence_id, [], None, "error", held.form.error)]
        output = self._new(sequence_id, held, list(result.generated_tokens[held.reported :]))
        if not result.is_finished():
            return [output]
        del self._held[sequence_id]
        if result.error is not None:
            return [output._replace(finish_reason="failed", error=f"The engine failed: {result.error}")]
        stopped = result.generated_tokens[-1:] and result.generated_tokens[-1] in held.request.eos_ids
        stopped = stopped and held.sampling.max_tokens > 0
        return [output._replace(finish_reason="stop" if stopped else "length")]

    def _new(self, sequence_id: int, held: Held, tokens: list[int]) -> SequenceOutput:
        """What a sequence has made since it was asked last."""
        begun, held.reported = held.reported, held.reported + len(tokens)
        if held.sampling.max_tokens == 0:  # it was made only since the manager makes one at least
            tokens = []
        if held.extras is None:
            return SequenceOutput(sequence_id, tokens)
        return held.extras.output(sequence_id, tokens, begun)

    def _kv_cache(self) -> dict[str, int]:
        """What the manager has made of it, which it has by the first step: this process' share of its bytes."""
        cache = self._manager.batch_processor.cache
        return {
            "kv_capacity_tokens": cache.num_blocks * PAGE_TOKENS,
            "kv_cache_bytes": cache.num_sectors * cache.bytes_per_sector,
        }

    def _processors(self, sampling: Sampling) -> dict[str, float | int]:
        """The manager samples all sequences or none: greedy is sampling from the one best token, ties broken."""
        if sampling.greedy:
            return {"temperature": 1.0, "top_k": 1, "top_p": 0.0}
        return {
            # One that is smaller makes infinities of scores, in 16 bits.
            "temperature": max(float(sampling.temperature), MIN_TEMPERATURE),
            "top_k": min(sampling.top_k or self._vocabulary, self._vocabulary),
            "top_p": float(sampling.top_p),
        }


def _name(request: SequenceRequest) -> str:
    """What the manager calls it."""
    return f"{request.sequence_id}{YIELDS if request.yields else ''}"
