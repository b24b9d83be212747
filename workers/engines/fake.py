"""The fake engine: deterministic, without weights, with settable speed and faults. For tests and demos of the queue.

Token i of a sequence is a function of (key, i) alone, so that a gap, a repeat or a mix-up shows in the text itself.
Options: `step_s` pause per step, `load_s` time until it is ready, in `LOAD_PARTS` parts for each stage, `fail_load`: a
FailureReason with which the second stage fails at half, `crash_load`: the process ends there; `prefill_s`: a sequence
has its first token so much later, while the others go on. `{fault}_word` + `{fault}_at`: what happens when a sequence
with that word in its prompt reaches that token number. The faults are `crash`: the process ends; `hang`: no step ends
any more; `raise`: the step raises; `garbage`: the token is none; `hog`: each step takes `HOG_BYTES` more memory.
"""

from __future__ import annotations

import os
import time
import zlib
from typing import cast

from gateway.engine_table import SPECS
from gateway.failures import DeploymentFailed, FailureReason
from workers.engines.base import (
    EngineConfig,
    EngineInfo,
    Report,
    Sampling,
    SequenceOutput,
    SequenceRequest,
    no_report,
    require,
)

#: Token ids are 0 to this, exclusive.
VOCABULARY = 50_000
#: Steps of progress in each stage of loading.
LOAD_PARTS = 8
#: What a step takes that hogs memory.
HOG_BYTES = 32 << 20
_CAN = SPECS["fake"].sampling
#: What a word in a prompt can lead to.
FAULTS = ("crash", "hang", "raise", "garbage", "hog")


def fake_token(key: str, i: int) -> int:
    """The i-th token (from 0) of the sequence `key`."""
    return zlib.crc32(f"{key}#{i}".encode()) % VOCABULARY


def fake_word(word: str) -> int:
    """The token of a word in a prompt."""
    return zlib.crc32(word.encode()) % VOCABULARY


class FakeEngine:
    """A batch that makes one token a step for each of its first `max_batch_size` sequences."""

    def __init__(self, config: EngineConfig, report: Report = no_report) -> None:
        self._options = config.options
        self._places = config.max_batch_size
        #: What happens, at which word of a prompt, from which token on.
        self._faults = [
            (fault, fake_word(str(word)), int(config.options.get(f"{fault}_at", 0)))
            for fault in FAULTS
            if (word := config.options.get(f"{fault}_word"))
        ]
        #: Request, sampling, and how many tokens it has.
        self._sequences: dict[int, tuple[SequenceRequest, Sampling, int]] = {}
        #: When sequences that are in their prefill will have their first token.
        self._prefill: dict[int, float] = {}
        self._hoard: list[bytes] = []
        self._cancelled: list[int] = []
        self._load(report)
        effective = {"quantization": config.quantization, "devices": [config.device], "kv_cache": config.use_kv_cache}
        self.info = EngineInfo("fake", config.context_length, "fake", sorted(_CAN), effective)

    def add(self, request: SequenceRequest) -> None:
        """Admit a sequence. Raises: EngineRequestError for penalties and embeddings."""
        self._sequences[request.sequence_id] = (request, require(request, _CAN, "fake"), 0)
        if prefill_s := float(self._options.get("prefill_s", 0)):
            self._prefill[request.sequence_id] = time.monotonic() + prefill_s

    def cancel(self, sequence_id: int) -> None:
        """Take a sequence out."""
        self._prefill.pop(sequence_id, None)
        if self._sequences.pop(sequence_id, None):
            self._cancelled.append(sequence_id)

    def has_work(self) -> bool:
        """Whether anything runs or is to be reported."""
        return bool(self._sequences or self._cancelled)

    def num_sequences(self) -> int:
        """Running and waiting sequences."""
        return len(self._sequences)

    def close(self) -> None:
        """It has no threads of its own."""

    def step(self) -> list[SequenceOutput]:
        """One token for each running sequence."""
        time.sleep(float(self._options.get("step_s", 0)))
        outputs = [SequenceOutput(i, [], None, "cancelled") for i in self._cancelled]
        self._cancelled = []
        for sequence_id, (request, sampling, made) in list(self._sequences.items())[: self._places]:
            if self._prefill.get(sequence_id, 0) > time.monotonic():
                continue
            self._prefill.pop(sequence_id, None)
            position = request.generated + made
            token = self._token(request, position)
            finished = made + 1 >= sampling.max_tokens
            if finished:
                del self._sequences[sequence_id]
            else:
                self._sequences[sequence_id] = (request, sampling, made + 1)
            logprobs = [-1.0] if sampling.logprobs else None
            outputs.append(SequenceOutput(sequence_id, [token], logprobs, "length" if finished else None))
        return outputs

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
            raise DeploymentFailed(FailureReason(reason), f"The option fail_load says {reason}.")

    def _token(self, request: SequenceRequest, position: int) -> int:
        """The next token, unless an option wants something else for this prompt."""
        token = fake_token(request.key, position)
        for fault, word, at in self._faults:
            if position >= at and word in request.prompt_ids:
                token = self._misbehave(fault, token)
        return token

    def _misbehave(self, fault: str, token: int) -> int:
        if fault == "crash":
            os._exit(70)
        elif fault == "hang":
            time.sleep(3600)
        elif fault == "raise":
            raise RuntimeError("the option raise_word says so")
        elif fault == "hog":
            self._hoard.append(b"\x01" * HOG_BYTES)
        return cast(int, None) if fault == "garbage" else token
