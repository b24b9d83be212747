"""The contract of an engine: token ids in, token ids or vectors out, step by step. Knows no text, jobs or processes."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

#: Why a sequence ended. `error`: the engine can't do what was asked; `failed`: something went wrong.
FINISH_REASONS = frozenset({"stop", "length", "cancelled", "error", "failed"})
#: Called by an engine while it loads: stage, parts done, parts in total. The stages are `model_initialization` (builds
#: the model) and `model_loading` (tensors, warm-up steps).
Report = Callable[[str, int, int], None]


def no_report(stage: str, done: int, total: int) -> None:
    """No-op callback."""


class EngineRequestError(Exception):
    """The engine can't do what one request asks. The text, for the client, says what, and what it can do."""


@dataclass(frozen=True)
class EngineConfig:
    """What a process needs to load an engine.

    `model_path` is empty for engines without weights. `device` is the engine's own name of a device: `CPU` or
    `cuda:1`. `max_batch_size` counts sequences, `context_length` the tokens of prompt and answer together.
    """

    engine: str
    model_path: str
    device: str
    max_batch_size: int
    context_length: int
    options: Mapping[str, Any] = field(default_factory=dict)
    #: `none` (as the source has it), `bf16`, `int8` or `int4`; `gateway/models/engines.py` says which engine has which.
    quantization: str = "none"
    tensor_parallel_size: int = 1
    use_flash_attention: bool = True
    use_kv_cache: bool = True
    cpu_offload: bool = False
    #: Where an engine may keep what it makes of a model's files, and the interpreter of the tool that makes it; empty:
    #: it is not installed.
    cache_dir: str = ""
    exporter: str = ""
    #: Folders of adapters that sequences may name.
    adapters: Sequence[str] = ()
    #: Tokens in the KV cache, all sequences together, as planned by `gateway/deployments/memory.py`; 0 = enough for a
    #: full batch.
    kv_capacity_tokens: int = 0

    def kv_blocks(self, block_tokens: int) -> int:
        """The number of blocks in the KV cache."""
        tokens = self.kv_capacity_tokens or self.max_batch_size * self.context_length
        return -(-tokens // block_tokens)


@dataclass(frozen=True)
class EngineInfo:
    """What a loaded engine reports about itself."""

    name: str
    context_length: int
    weights_digest: str
    capabilities: Sequence[str]
    #: The effective options: attention, quantization, devices, threads, kv_cache, and, as the library counts them,
    #: kv_capacity_tokens and kv_cache_bytes. `in_32_bits`: nothing is computed in fewer, nor kept so, on which an exact
    #: resume depends.
    effective: Mapping[str, Any] = field(default_factory=dict)
    #: Duration of the slowest warm-up step; 0 = unknown.
    warm_up_step_s: float = 0.0


@dataclass(frozen=True)
class Sampling:
    """How one sequence is sampled. The ranges are those that requests are checked against.

    `temperature` is 0 (greedy) to 100, `top_p` 0 to 1, `top_k` from 1 (0 = off); `seed` None = random, and a resume has
    the same one. Presence and
    frequency penalties are -2 to 2, the repetition penalty 0.1 to 10 (1 = off). OpenVINO applies presence and frequency
    penalties to generated tokens only: those from before a resume are part of its prompt, and not counted.
    """

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    #: Added to the scores of tokens, by their ids as texts, as JSON has them.
    logit_bias: Mapping[str, float] = field(default_factory=dict)
    #: Tokens are left out that are less likely than this part of the likeliest one; 0 = off.
    min_p: float = 0.0
    #: Return the log probability of each chosen token.
    logprobs: bool = False
    #: And so many of the likeliest tokens at its place.
    top_logprobs: int = 0
    #: Return both for the tokens of the prompt, too. `max_tokens` may be 0 then.
    prompt_logprobs: bool = False
    #: What the answer, or after a resume the rest of it, must be: a grammar in the engine's own language
    #: (`EngineSpec.grammar_language`). Empty = any text.
    grammar: str = ""

    @property
    def greedy(self) -> bool:
        """Whether each token is the likeliest one, which a temperature or a `top_p` of 0 means."""
        return self.temperature == 0 or self.top_p == 0

    @property
    def is_sound(self) -> bool:
        """Whether what is reckoned with scores is in its range: else one request could make them all invalid."""
        numbers = (self.presence_penalty, self.frequency_penalty, *self.logit_bias.values())
        return all(map(math.isfinite, numbers)) and 0 < self.repetition_penalty < math.inf and 0 <= self.min_p <= 1

    def used(self) -> set[str]:
        """The features that this request uses, beyond max_tokens and temperature."""
        default = Sampling(max_tokens=self.max_tokens, temperature=self.temperature)
        return {name for name, value in vars(self).items() if value != getattr(default, name)}


@dataclass(frozen=True)
class SequenceRequest:
    """One sequence to continue, or to embed if `sampling` is None.

    After a resume, the last `generated` ids of `prompt_ids` are the answer so far.
    """

    sequence_id: int
    prompt_ids: Sequence[int]
    sampling: Sampling | None = None
    #: Any of these ends the sequence; it is part of the output.
    eos_ids: Sequence[int] = ()
    #: `{job}/{choice}`, the same across resumes. The fake engine derives its text from it, and the embedding engine
    #: shares its time between jobs by it.
    key: str = ""
    generated: int = 0
    #: Prompts of others come first, and its own is computed so that their answers hardly notice.
    yields: bool = False
    #: The folder of the adapter (LoRA) that it is computed with; empty = none.
    adapter: str = ""
    #: The ids that log lines about it have.
    log_ids: Mapping[str, str] = field(default_factory=dict)


class Likely(NamedTuple):
    """A token that might have come."""

    token_id: int
    logprob: float


class TokenLogprob(NamedTuple):
    """The natural logarithm of a token's probability, and the likeliest tokens at its place, the best first.

    None: nothing is known of it, as it is the first.
    """

    logprob: float | None
    likely: Sequence[Likely]


class SequenceOutput(NamedTuple):
    """What one step made for one sequence. One step may return several for one sequence, in order.

    `token_ids` may be empty. `logprobs` has the natural logarithm of each token's probability, one per token, if they
    were asked for. `finish_reason` is one of FINISH_REASONS, or None if the sequence continues: an admitted sequence
    ends with exactly one output that has a reason. `error` is the text for `error` and `failed`.
    """

    sequence_id: int
    token_ids: Sequence[int]
    logprobs: Sequence[float] | None = None
    finish_reason: str | None = None
    error: str | None = None
    #: The vector of an embedded sequence: float32, little-endian.
    vector: bytes | None = None
    #: The likeliest tokens at the place of each token, the best first, if they were asked for.
    likely: Sequence[Sequence[Likely]] | None = None
    #: Of all tokens of the prompt, if they were asked for: with the first output of a sequence.
    prompt: Sequence[TokenLogprob] | None = None
    #: Tokens of the prompt that the engine had in its cache: with the first output of a sequence.
    cached: int | None = None


class Engine(Protocol):
    """A running batch that sequences join and leave between steps.

    The constructor takes `(config: EngineConfig, report: Report)`, loads the weights, and sets `info`. One thread makes
    all calls. An error raised by `add` or `cancel` ends that sequence only. One raised by `step` ends the only sequence
    of the batch; with several, it ends the engine process.
    """

    info: EngineInfo

    def add(self, request: SequenceRequest) -> None:
        """Let a sequence join the batch, or wait for room in it. Raises: EngineRequestError."""

    def cancel(self, sequence_id: int) -> None:
        """Take a sequence out. The next step reports it as cancelled, once. Unknown ids are ignored."""

    def step(self) -> list[SequenceOutput]:
        """Advance the running sequences, and return what was made.

        May block for one forward pass, or while it waits for its library, but not for longer than `engine_stall_s` and
        the warm-up allow (`workers/replica/stall.py`): then the process is killed.
        """

    def has_work(self) -> bool:
        """Whether a step is due: sequences run or wait, or a cancellation has to be reported."""

    def num_sequences(self) -> int:
        """Running and waiting sequences."""

    def kv_used_tokens(self) -> int:
        """Tokens of the KV cache that are taken; 0 if it has none, or does not tell."""

    def close(self) -> None:
        """End its threads. Only tests need it: an engine process just ends."""


def fresh_seed(seed: int, generated: int) -> int:
    """For an engine that draws the noise of the first token anew with each sequence: a seed for the rest of an answer.

    It differs by the number of `generated` tokens, and is the same for the same number.
    """
    if not generated:
        return seed
    digest = hashlib.blake2b(f"{seed}/{generated}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") >> 1


def require_known(token_ids: Sequence[int], vocabulary: int, what: str = "It") -> None:
    """Raises: EngineRequestError if there are no token ids, or one is not below `vocabulary`."""
    if not token_ids:
        raise EngineRequestError("The prompt has no tokens.")
    wrong = next((i for i in token_ids if type(i) is not int or not 0 <= i < vocabulary), None)
    if wrong is not None:
        raise EngineRequestError(f"{what} holds the token id {wrong}; allowed: 0 to {vocabulary - 1}.")


def require(request: SequenceRequest, allowed: frozenset[str], engine: str, *, vocabulary: int) -> Sampling:
    """Check a request. Returns its sampling.

    Raises:
        EngineRequestError: the request uses a feature that the engine lacks, or token ids that the model does not have;
            nothing is ignored silently.
    """
    sampling = request.sampling
    require_known(request.prompt_ids, vocabulary)
    if sampling is None:
        raise EngineRequestError(f"The {engine} engine makes text, not vectors.")
    require_known([int(token_id) for token_id in sampling.logit_bias] or [0], vocabulary, "logit_bias")
    missing = sorted(sampling.used() - allowed)
    if missing:
        raise EngineRequestError(
            f"The {engine} engine can't do {', '.join(missing)}; it can do: {', '.join(sorted(allowed))}."
        )
    if request.adapter and "adapter" not in allowed:
        raise EngineRequestError(f"The {engine} engine serves no adapters.")
    if not sampling.is_sound:
        raise EngineRequestError("A penalty, a bias or min_p is out of its range.")
    return sampling


def require_room(request: SequenceRequest, sampling: Sampling, capacity: int) -> None:
    """Raises: EngineRequestError if the sequence could outgrow a KV cache of `capacity` tokens."""
    tokens = len(request.prompt_ids) + sampling.max_tokens
    if tokens > capacity:
        raise EngineRequestError(
            f"Prompt and answer may take {tokens} tokens, and the KV cache of this engine has {capacity}."
        )


#: What warms an engine up that makes text.
FEW_TOKENS = Sampling(max_tokens=4, temperature=0.0)


def warm_up(engine: Engine, report: Report, sampling: Sampling | None = FEW_TOKENS) -> float:
    """Make a few tokens, or a vector, so that the first request finds compiled kernels and memory that was touched.

    Returns how long the slowest of these steps took.
    """
    engine.add(SequenceRequest(0, [0], sampling))
    total = sampling.max_tokens if sampling else 1
    done, slowest_s = 0, 0.0
    while engine.has_work():
        report("model_loading", done, total)
        begun = time.monotonic()
        done += sum(len(output.token_ids) for output in engine.step())
        slowest_s = max(slowest_s, time.monotonic() - begun)
    report("model_loading", total, total)
    return slowest_s
