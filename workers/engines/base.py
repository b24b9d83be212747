"""The contract of an engine: token ids in, token ids or vectors out, step by step. Knows no text, jobs or processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

#: Tokens of the sequence that warms an engine up.
WARM_UP_STEPS = 4
#: Why a sequence ended. `error`: the engine can't do what was asked; `failed`: it went wrong.
FINISH_REASONS = frozenset({"stop", "length", "cancelled", "error", "failed"})
#: How an engine tells what it does while it loads: the stage, then how many of how many parts are done. Stages are
#: `model_initialization` (building the model) and `model_loading` (tensors, warm-up steps).
Report = Callable[[str, int, int], None]


def no_report(stage: str, done: int, total: int) -> None:
    """For who does not want to hear."""


class EngineRequestError(Exception):
    """The engine can't do what one request asks; the text says what, and what it can."""


@dataclass(frozen=True)
class EngineConfig:
    """What a process needs to load an engine. `model_path` may be empty for engines without weights."""

    engine: str
    model_path: str
    device: str
    max_batch_size: int
    context_length: int
    options: Mapping[str, Any] = field(default_factory=dict)
    #: `none` (as the source has it), `bf16`, `int8` or `int4`; `gateway/models/engines.py` says who has which.
    quantization: str = "none"
    tensor_parallel_size: int = 1
    use_flash_attention: bool = True
    use_kv_cache: bool = True
    cpu_offload: bool = False
    #: Tokens that the KV cache holds, all sequences together, as `gateway/deployments/memory.py` has planned; 0 = those
    #: of a full batch.
    kv_capacity_tokens: int = 0

    def kv_blocks(self, block_tokens: int) -> int:
        """The blocks of the KV cache."""
        tokens = self.kv_capacity_tokens or self.max_batch_size * self.context_length
        return -(-tokens // block_tokens)


@dataclass(frozen=True)
class EngineInfo:
    """What a loaded engine says of itself."""

    name: str
    context_length: int
    weights_digest: str
    capabilities: Sequence[str]
    #: What is really in force: attention, quantization, devices, threads, kv_cache, and, as the library counts them,
    #: kv_capacity_tokens and kv_cache_bytes.
    effective: Mapping[str, Any] = field(default_factory=dict)
    #: How long the slowest step took while it was warmed up.
    warm_up_step_s: float = 0.0


@dataclass(frozen=True)
class Sampling:
    """How one sequence is sampled. Temperature 0 is greedy, `top_k` 0 is off, `seed` None is random."""

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    #: Give the log probability of each chosen token.
    logprobs: bool = False

    @property
    def greedy(self) -> bool:
        """Whether each token is the likeliest one: what a temperature, or a share, of 0 comes to."""
        return self.temperature == 0 or self.top_p == 0

    def used(self) -> set[str]:
        """The features that this request really asks for, beyond max_tokens and temperature."""
        default = Sampling(max_tokens=self.max_tokens, temperature=self.temperature)
        return {name for name, value in vars(self).items() if value != getattr(default, name)}


@dataclass(frozen=True)
class SequenceRequest:
    """One sequence to continue, or to embed if `sampling` is None.

    To continue, `prompt_ids` ends with the `generated` ids that an earlier claim has published.
    """

    sequence_id: int
    prompt_ids: Sequence[int]
    sampling: Sampling | None = None
    #: Any of these ends the sequence; it is part of the output.
    eos_ids: Sequence[int] = ()
    #: Names the sequence across resumes, `{job}/{choice}`: the fake engine makes its text of it, and the embedding
    #: engine shares its time between jobs by it.
    key: str = ""
    generated: int = 0


class SequenceOutput(NamedTuple):
    """What one step made for one sequence. `finish_reason`: one of FINISH_REASONS, or None = it goes on."""

    sequence_id: int
    token_ids: Sequence[int]
    logprobs: Sequence[float] | None = None
    finish_reason: str | None = None
    error: str | None = None
    #: What an embedded sequence comes to: float32, little-endian.
    vector: bytes | None = None


class Engine(Protocol):
    """A running batch that sequences join and leave at any step."""

    info: EngineInfo

    def add(self, request: SequenceRequest) -> None:
        """Admit a sequence to the next step. Raises: EngineRequestError."""

    def cancel(self, sequence_id: int) -> None:
        """Take a sequence out; the next step reports it as cancelled. Unknown ids are ignored."""

    def step(self) -> list[SequenceOutput]:
        """Advance every running sequence."""

    def has_work(self) -> bool:
        """Whether a step would do anything."""

    def num_sequences(self) -> int:
        """Sequences that hold a place or wait for one."""

    def close(self) -> None:
        """End the threads that it has started. An engine process needs no close: it ends as a whole."""


def require_known(token_ids: Sequence[int], vocabulary: int) -> None:
    """Raises: EngineRequestError if there is none, or one that a model with so many token ids does not have."""
    if not token_ids:
        raise EngineRequestError("The prompt has no tokens.")
    wrong = next((i for i in token_ids if type(i) is not int or not 0 <= i < vocabulary), None)
    if wrong is not None:
        raise EngineRequestError(f"It holds the token id {wrong}; allowed: 0 to {vocabulary - 1}.")


def require(request: SequenceRequest, allowed: frozenset[str], engine: str, *, vocabulary: int) -> Sampling:
    """How the sequence is sampled.

    Raises:
        EngineRequestError: the request uses a feature that the engine lacks, or token ids that the model does not have;
            nothing is ignored silently.
    """
    sampling = request.sampling
    require_known(request.prompt_ids, vocabulary)
    if sampling is None:
        raise EngineRequestError(f"The {engine} engine makes text, not vectors.")
    missing = sorted(sampling.used() - allowed)
    if missing:
        raise EngineRequestError(
            f"The {engine} engine can't do {', '.join(missing)}; it can do: {', '.join(sorted(allowed))}."
        )
    return sampling


def require_room(request: SequenceRequest, sampling: Sampling, capacity: int) -> None:
    """Raises: EngineRequestError if the sequence could outgrow a KV cache of so many tokens."""
    tokens = len(request.prompt_ids) + sampling.max_tokens
    if tokens > capacity:
        raise EngineRequestError(
            f"Prompt and answer may take {tokens} tokens, and the KV cache of this engine has {capacity}."
        )


def warm_up(engine: Engine, report: Report) -> float:
    """Make a few tokens, so that the first request finds compiled kernels and memory that was touched.

    Returns how long the slowest of these steps took.
    """
    engine.add(SequenceRequest(0, [0], Sampling(max_tokens=WARM_UP_STEPS, temperature=0.0)))
    done, slowest_s = 0, 0.0
    while engine.has_work():
        report("model_loading", done, WARM_UP_STEPS)
        begun = time.monotonic()
        done += sum(len(output.token_ids) for output in engine.step())
        slowest_s = max(slowest_s, time.monotonic() - begun)
    report("model_loading", WARM_UP_STEPS, WARM_UP_STEPS)
    return slowest_s
