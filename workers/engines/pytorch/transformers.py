"""transformers' continuous batching manager as an engine: paged KV cache, prefix sharing. Reads safetensors folders.

The manager steps in a thread of its own; `step` takes what it has made. Options: `threads` of each process.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import torch
from transformers.generation.continuous_batching.requests import GenerationOutput

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
from workers.engines.grammars.compiling import Compiling
from workers.engines.pytorch.forms import Form
from workers.engines.pytorch.loading import (
    QUANTIZED,
    check_shares,
    device_of,
    load_causal_lm,
    page_tokens,
    start_manager,
)
from workers.engines.pytorch.ranks import RankGroup
from workers.engines.pytorch.row import Row
from workers.engines.pytorch.vocabulary import grammars_of
from workers.engines.weights import weights_digest

#: What one request may ask for. Ranks that share a model compute no prompt as a whole.
_CAN = frozenset({"top_p", "top_k", "min_p", "seed", "logit_bias", "logprobs", "top_logprobs", "grammar"}) | {
    *("presence_penalty", "frequency_penalty", "repetition_penalty", "prompt_logprobs")
}
_CAN_SHARED = _CAN - {"prompt_logprobs"}
#: How long `step` waits for the manager before it gives control back.
STEP_WAIT_S = 1.0
#: How long the manager may take to end.
CLOSE_WAIT_S = 30.0


class TransformersEngine(BatchEngine[Row]):
    """The model, its manager, and the rows of its batch."""

    def __init__(self, config: EngineConfig, report: Report = no_report) -> None:
        super().__init__()
        self._warm_up_step_s = 0.0
        self._can = _CAN_SHARED if config.tensor_parallel_size > 1 else _CAN
        #: A list of outputs for each step, and the manager's own results.
        self._made: SimpleQueue[Any] = SimpleQueue()
        self._page_tokens = page_tokens(config)
        #: Tokens that the KV cache holds.
        self._capacity = config.kv_blocks(self._page_tokens) * self._page_tokens
        report("model_initialization", 0, 1)
        self._ranks: RankGroup | None = None
        if config.tensor_parallel_size > 1:
            check_shares(config)
            self._ranks = RankGroup(config)
            model = self._ranks.run(lambda: self._load(config, report))
        else:
            model = self._load(config, report)
        dtype = str(model.dtype).removeprefix("torch.")
        effective = {
            "attention": model.config._attn_implementation,
            "quantization": config.quantization if config.quantization in QUANTIZED else dtype,
            "dtype": dtype,
            "in_32_bits": model.dtype == torch.float32,
            "devices": [str(device_of(config, rank)) for rank in range(config.tensor_parallel_size)],
            "threads": torch.get_num_threads(),
            "kv_cache": True,
            **self._kv_cache(),
        }
        digest = weights_digest(config)
        length, can = config.context_length, sorted(self._can)
        self.info = EngineInfo("transformers", length, digest, can, effective, self._warm_up_step_s)

    def kv_used_tokens(self) -> int:
        """Those of the sequences that it has."""
        return sum(len(row.prompt) + len(row.answer) for row in self._held.values())

    def _load(self, config: EngineConfig, report: Report) -> Any:
        model = load_causal_lm(config)
        report("model_initialization", 1, 1)
        self._vocabulary = int(model.config.vocab_size)
        self._manager = start_manager(model, config, self._made)
        self._grammars = grammars_of(Path(config.model_path), self._vocabulary)
        self._compiling = Compiling[Form](self._wake)
        self._warm_up_step_s = warm_up(self, report)
        return model

    def add(self, request: SequenceRequest) -> None:
        """Admit a sequence. Raises: EngineRequestError."""
        sampling = require(request, self._can, "transformers", vocabulary=self._vocabulary)
        require_room(request, sampling, self._capacity)
        row = Row(request, sampling)
        if sampling.grammar:
            self._compiling.start(request.sequence_id, self._compiler(request, sampling.grammar))
        else:
            self._give(row)
        self._held[request.sequence_id] = row

    def _compiler(self, request: SequenceRequest, grammar: str) -> Callable[[], Form]:
        """What compiles a grammar. Raises: EngineRequestError."""
        grammars, eos_ids = self._grammars, request.eos_ids
        if grammars is None:
            raise EngineRequestError("This model has no tokenizer that grammars can be used with.")
        if not eos_ids:
            raise EngineRequestError("A grammar needs a token that ends the answer, and this model has none.")
        return lambda: Form(grammars.matcher(grammar), eos_ids)

    def _give(self, row: Row) -> None:
        """Let the manager have a sequence."""
        self._manager.add_request(
            row.prompt + row.answer,
            request_id=str(row.sequence_id),
            max_new_tokens=max(1, row.sampling.max_tokens),
            # An empty list would mean the model's own.
            eos_token_id=list(row.eos_ids) or [-1],
            row=row,
        )

    def _wake(self) -> None:
        """A grammar is there: end the wait of `_advance`."""
        self._made.put(None)

    def _begin_compiled(self) -> list[SequenceOutput]:
        """Sequences whose grammars are there join; the others end."""
        refused = []
        for sequence_id, form in self._compiling.finished():
            if isinstance(form, EngineRequestError):
                del self._held[sequence_id]
                refused.append(SequenceOutput(sequence_id, [], None, "error", str(form)))
            else:
                row = self._held[sequence_id]
                row.form = form
                self._give(row)
        return refused

    def _withdraw(self, sequence_id: int, held: Row) -> None:
        """Its place is free at the manager's next step."""
        if not self._compiling.forget(sequence_id):
            self._manager.cancel_request(str(sequence_id))

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
        if outputs or not self._held:
            return outputs
        with suppress(Empty):
            made = self._made.get(timeout=STEP_WAIT_S)
            while True:
                outputs += self._taken(made)
                made = self._made.get_nowait()
        if self._held and not self._manager.is_running():
            raise RuntimeError("transformers' continuous batching has stopped; its error lies in the log above")
        return outputs

    def _taken(self, made: Any) -> list[SequenceOutput]:
        """The outputs of a step, or the end that the manager tells of a sequence; not of those that were cancelled."""
        if isinstance(made, GenerationOutput):
            failed = SequenceOutput(int(made.request_id), [], None, "failed", f"The engine failed: {made.error}")
            made = [failed] if made.error is not None else []
        outputs = [output for output in made or () if output.sequence_id in self._held]
        for output in outputs:
            if output.finish_reason:
                row = self._held.pop(output.sequence_id)
                if output.finish_reason == "error":  # the manager does not know
                    self._withdraw(output.sequence_id, row)
        return outputs

    def _kv_cache(self) -> dict[str, int]:
        """What the manager has made of it, which it has by the first step: this process' share of its bytes."""
        cache = self._manager.batch_processor.cache
        return {
            "kv_capacity_tokens": cache.num_blocks * self._page_tokens,
            "kv_cache_bytes": cache.num_sectors * cache.bytes_per_sector,
        }
