"""One sequence of a batch: what it asks for, and what it has made. The manager carries it with the sequence."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy
from numpy.typing import NDArray

from workers.engines.base import Sampling, SequenceOutput, SequenceRequest, TokenLogprob
from workers.engines.pytorch.forms import Form

#: Temperatures beyond these make infinities of scores; below the first no other token comes than the likeliest.
TEMPERATURES = (1e-5, 1e30)
#: With none of its mass not even the likeliest token would be left.
LEAST_TOP_P = 1e-30


class Row:
    """Its row of the scores, while it is computed. Each of several ranks has its own, and all draw the same tokens."""

    def __init__(self, request: SequenceRequest, sampling: Sampling) -> None:
        """Raises: TypeError, ValueError for what is no number: later it would end the whole batch."""
        prompt = len(request.prompt_ids) - request.generated
        self.sequence_id = request.sequence_id
        self.sampling = sampling
        self.prompt = list(request.prompt_ids[:prompt])
        #: All of it, with what was made before a resume.
        self.answer = list(request.prompt_ids[prompt:])
        low, high = TEMPERATURES
        self.temperature = min(max(float(sampling.temperature), low), high)
        self.top_p = max(float(sampling.top_p), LEAST_TOP_P)
        #: How far a score may be below the best one, after the temperature.
        self.min_score = math.log(sampling.min_p) if sampling.min_p else -math.inf
        self.bias_ids = numpy.array([int(token_id) for token_id in sampling.logit_bias], numpy.int64)
        self.bias = numpy.array(list(sampling.logit_bias.values()), numpy.float32)
        #: Of its noise.
        self.seed = int.from_bytes(os.urandom(8), "little") if sampling.seed is None else int(sampling.seed)
        #: What its answer must be, once that is compiled.
        self.form: Form | None = None
        self.eos_ids = frozenset(request.eos_ids)
        #: See `SequenceRequest`.
        self.yields = request.yields
        self._generated = request.generated
        self._counts: Counter[int] | None = None
        self._of_prompt: dict[int, TokenLogprob] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> Row:
        """The manager copies sequences that it has moved out of the cache: it is still the same answer."""
        return self

    @property
    def made(self) -> list[int]:
        """The tokens of its answer since it was added."""
        return self.answer[self._generated :]

    @property
    def num_made(self) -> int:
        """How many these are."""
        return len(self.answer) - self._generated

    @property
    def changes_scores(self) -> bool:
        """Whether its scores are not the model's own."""
        wanted = self.sampling
        return bool(
            wanted.logit_bias
            or wanted.repetition_penalty != 1
            or wanted.presence_penalty
            or wanted.frequency_penalty
            or self.form
        )

    def counts(self) -> tuple[NDArray[numpy.int64], NDArray[numpy.float32]]:
        """The tokens of its answer, each once, and how often each has come."""
        if self._counts is None:
            self._counts = Counter(self.answer)
        size = len(self._counts)
        return (
            numpy.fromiter(self._counts.keys(), numpy.int64, size),
            numpy.fromiter(self._counts.values(), numpy.float32, size),
        )

    def seen(self) -> NDArray[numpy.int64]:
        """The tokens of prompt and answer, each once."""
        return numpy.unique(numpy.array(self.prompt + self.answer, numpy.int64))

    def add(self, token_id: int) -> SequenceOutput:
        """It has drawn a token. Returns what is to be told of it, but for log probabilities."""
        self.answer.append(token_id)
        if self._counts is not None:
            self._counts[token_id] += 1
        if self.form and self.form.error:
            return SequenceOutput(self.sequence_id, [], None, "error", self.form.error)
        if self.sampling.max_tokens <= 0:  # it was made only since the manager makes one at least
            return SequenceOutput(self.sequence_id, [], None, "length")
        finish = "length" if self.num_made >= self.sampling.max_tokens else None
        return SequenceOutput(self.sequence_id, [token_id], None, "stop" if token_id in self.eos_ids else finish)

    @property
    def wants_prompt(self) -> bool:
        """Whether the log probabilities of its prompt are asked for, and not all known."""
        return self.sampling.prompt_logprobs and len(self._of_prompt) < len(self.prompt) - 1

    def note_prompt(self, found: Sequence[TokenLogprob], first: int) -> None:
        """What was found for the tokens of its prompt from position `first` on."""
        self._of_prompt |= {first + i: one for i, one in enumerate(found)}

    def of_prompt(self) -> list[TokenLogprob] | None:
        """The log probabilities of its prompt, with the first token only; None if they are not asked for."""
        if not self.sampling.prompt_logprobs or self.num_made > 1:
            return None
        return [TokenLogprob(None, ()), *(self._of_prompt[at] for at in range(1, len(self.prompt)))]


def row_of(state: Any) -> Row | None:
    """That of a sequence of the manager; None for those with which it warms itself up."""
    found = state.logit_processor_kwargs.get("row")
    return found if isinstance(found, Row) else None
