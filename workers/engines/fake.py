"""The fake engine: deterministic, without weights, with settable speed and faults. For tests and demos of the queue.

Token i of a sequence is a function of (key, i) alone, so that a gap, a repeat or a mix-up shows in the text itself;
with a grammar, of what it allows there, too (`workers/engines/grammars/fake_form.py`).
Options: `step_s` pause per step; `prefill_s` so long a prompt takes, in steps that make no token for its sequence, one
prompt behind the other while begun sequences go on; `prefill_tokens_per_s` how fast prompts are computed, in pieces as
`workers/engines/prefill.py` says; `load_s` time until it is ready, in `LOAD_PARTS` parts for each
stage; `fail_load`: a Reason with which the second stage fails at half; `crash_load`: the process ends there;
`digest` of its weights; `in_32_bits`: whether it says that it computes so; and the faults of
`workers.engines.fakes.faults.py`.
"""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

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
from workers.engines.batch_engine import BatchEngine
from workers.engines.failures import LoadFailed, Reason
from workers.engines.fakes.faults import Faults
from workers.engines.fakes.scores import SCORES, scored
from workers.engines.grammars.fake_form import FIRST_BYTE, FakeForm
from workers.engines.prefill import Prefill, Prompt

#: Token ids are 0 to this, exclusive: words, and behind them the bytes of answers that have a form.
VOCABULARY = FIRST_BYTE + 256
#: Steps of progress in each stage of loading.
LOAD_PARTS = 8
#: The least that a step takes which computes a prompt.
PREFILL_STEP_S = 0.01
#: Tokens of prompts and answers that one step may hold.
MAX_STEP_TOKENS = 512
_CAN = frozenset({"seed", "top_p", "top_k", "min_p", "grammar"}) | SCORES


def fake_token(key: str, i: int) -> int:
    """The i-th token (from 0) of the sequence `key`."""
    return zlib.crc32(f"{key}#{i}".encode()) % FIRST_BYTE


def fake_word(word: str) -> int:
    """The token of a word in a prompt."""
    return zlib.crc32(word.encode()) % FIRST_BYTE


@dataclass
class Running:
    """A sequence in the batch, and how far it is."""

    request: SequenceRequest
    sampling: Sampling
    prefill_s: float
    #: Tokens of its prompt that are still to be computed.
    unread: int
    #: What its grammar allows.
    form: FakeForm | None = None
    made: int = 0

    @property
    def is_answering(self) -> bool:
        """Its prompt is computed."""
        return self.prefill_s <= 0 and not self.unread


class FakeEngine(BatchEngine[Running]):
    """A batch that makes one token a step for each of its first `max_batch_size` sequences."""

    def __init__(self, config: EngineConfig, report: Report = no_report) -> None:
        super().__init__()
        self._options = config.options
        self._places = config.max_batch_size
        self._step_s, self._prefill_s = (float(config.options.get(name, 0)) for name in ("step_s", "prefill_s"))
        tokens_per_s = float(config.options.get("prefill_tokens_per_s", 0))
        self._token_s = 1 / tokens_per_s if tokens_per_s else 0.0
        self._prefill = Prefill(block_tokens=1, max_step_tokens=MAX_STEP_TOKENS)
        self._faults = Faults(config.options, fake_word)
        self._load(report)
        effective = {
            "quantization": config.quantization,
            "in_32_bits": config.options.get("in_32_bits", True),
            "devices": [config.device],
            "kv_cache": config.use_kv_cache,
        }
        digest = str(config.options.get("digest", "fake"))
        self.info = EngineInfo("fake", config.context_length, digest, sorted(_CAN), effective)

    def add(self, request: SequenceRequest) -> None:
        """Admit a sequence. Raises: EngineRequestError for penalties, embeddings and bad grammars."""
        self._faults.on_add(request)
        sampling = require(request, _CAN, "fake", vocabulary=VOCABULARY)
        unread = len(request.prompt_ids) if self._token_s else 0
        form = FakeForm(sampling.grammar) if sampling.grammar else None
        self._held[request.sequence_id] = Running(request, sampling, self._prefill_s, unread, form)

    def _advance(self) -> list[SequenceOutput]:
        """One token for each running sequence whose prompt is computed."""
        batch = list(self._held.values())[: self._places]
        begun, answering = time.monotonic(), sum(one.is_answering for one in batch)
        tokens = self._read_prompts(batch)
        self._spend_time(next((one for one in batch if one.prefill_s > 0), None))
        self._prefill.pace.note(time.monotonic() - begun, tokens=tokens, decoding=answering > 0)
        return [self._next_token(one) for one in batch if one.is_answering]

    def _read_prompts(self, batch: Sequence[Running]) -> int:
        """Spend the time that prompts take. Returns how many tokens of them were computed."""
        unread = {one.request.sequence_id: one for one in batch if one.unread}
        prompts = [Prompt(i, one.unread, one.request.yields) for i, one in unread.items()]
        answering = [one.request.yields for one in batch if one.is_answering]
        plan = self._prefill.plan(prompts, decoding=len(answering), yielding=sum(answering))
        for sequence_id, tokens in plan.items():
            unread[sequence_id].unread -= tokens
        time.sleep(self._token_s * sum(plan.values()))
        return sum(plan.values())

    def _spend_time(self, prefilling: Running | None) -> None:
        step_s = max(self._step_s, PREFILL_STEP_S) if prefilling else self._step_s
        time.sleep(step_s)
        if prefilling:
            prefilling.prefill_s -= step_s

    def _next_token(self, one: Running) -> SequenceOutput:
        """Make one token."""
        position = one.request.generated + one.made
        self._faults.on_token(one.request, position)
        sequence_id, token = one.request.sequence_id, fake_token(one.request.key, position)
        if one.form:
            try:
                formed = one.form.next_token(one.request.key, position)
            except EngineRequestError as error:
                del self._held[sequence_id]
                return SequenceOutput(sequence_id, [], None, "error", str(error))
            if formed is None:
                del self._held[sequence_id]
                return SequenceOutput(sequence_id, [], None, "stop")
            token = formed
        output = scored(one.request, one.sampling, token, position=position, first=not one.made, vocabulary=VOCABULARY)
        one.made += 1
        finished = one.made >= one.sampling.max_tokens
        if finished:
            del self._held[sequence_id]
            output = output._replace(finish_reason="length")
        return self._faults.on_output(one.request, position, output)

    def _load(self, report: Report) -> None:
        pause_s = float(self._options.get("load_s", 0)) / (2 * LOAD_PARTS)
        for stage in ("model_initialization", "model_loading"):
            for done in range(LOAD_PARTS):
                report(stage, done, LOAD_PARTS)
                if stage == "model_loading" and done == LOAD_PARTS // 2:
                    self._fail_load()
                time.sleep(pause_s)
            report(stage, LOAD_PARTS, LOAD_PARTS)

    def _fail_load(self) -> None:
        if self._options.get("crash_load"):
            os._exit(70)
        if reason := self._options.get("fail_load"):
            raise LoadFailed(Reason(reason), f"The option fail_load says {reason}.")
