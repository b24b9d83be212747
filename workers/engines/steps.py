"""Steps: the frame with their outputs, which an engine process packs and a model worker checks, and what they take."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workers.engines.base import FINISH_REASONS, Likely, SequenceOutput, TokenLogprob

#: The log probability of an impossible token, as OpenAI writes it.
IMPOSSIBLE = -9999.0
#: What is left of a step's weight after another.
KEPT = 0.999
#: The line is drawn anew while the numbers of sequences differ so much: their variance.
LEAST_VARIANCE = 1.0
#: One step counts as at most so many times what was expected, or usual: the process may have been stopped meanwhile.
MOST_CHANGE = 2.0


@dataclass(frozen=True)
class StepFrame:
    """The outputs of one or more steps, and the numbers of sequences and of cached tokens in the engine after them.

    A step takes `base_s` seconds, and `each_s` more for each sequence; both are 0 if that is not known. These took
    `steps_s` together.
    """

    outputs: Sequence[SequenceOutput]
    sequences: int
    steps: int
    base_s: float = 0.0
    each_s: float = 0.0
    kv_used_tokens: int = 0
    steps_s: float = 0.0

    def pack(self) -> dict[str, Any]:
        """As it crosses processes."""
        outputs = [_packed(output) for output in self.outputs]
        times = [self.base_s, self.each_s, self.steps_s]
        counts = {"sequences": self.sequences, "kv_used": self.kv_used_tokens}
        return {"op": "step", "out": outputs, "steps": self.steps, "times": times, **counts}

    @classmethod
    def parse(cls, frame: Any) -> StepFrame:
        """Raises: ValueError if the frame is not one of steps."""
        match frame:
            case {
                "op": "step",
                "out": [*outputs],
                "sequences": int(sequences),
                "steps": int(steps),
                "times": [float(base_s), float(each_s), float(steps_s)],
                "kv_used": int(kv_used),
            }:
                made = [_unpacked(fields) for fields in outputs]
                return cls(made, sequences, steps, base_s, each_s, kv_used, steps_s)
        named = sorted(frame) if isinstance(frame, Mapping) else type(frame).__name__
        raise ValueError(f"what is no step: {named!r:.200}")


class StepTimes:
    """A line through the steps in which sequences only went on: `base_s`, and `each_s` more for each sequence.

    Both are 0 until one was measured. As long as all had the same number of sequences, each is taken to cost its part.
    """

    def __init__(self) -> None:
        self.base_s = self.each_s = 0.0
        self._is_known = False
        #: Weighted sums: of ones, sequences n, seconds s, n * n, n * s.
        self._weight = self._n = self._s = self._nn = self._ns = 0.0

    def note(self, step_s: float, *, sequences: int) -> None:
        """A step with so many sequences, each of which has made a token and no first one, took so long."""
        if self._weight:
            usual_s = max(self.base_s + self.each_s * sequences, self._s / self._weight)
            step_s = min(step_s, MOST_CHANGE * usual_s)
        self._weight = KEPT * self._weight + 1
        self._n = KEPT * self._n + sequences
        self._s = KEPT * self._s + step_s
        self._nn = KEPT * self._nn + sequences * sequences
        self._ns = KEPT * self._ns + sequences * step_s
        mean_n, mean_s = self._n / self._weight, self._s / self._weight
        variance = self._nn / self._weight - mean_n * mean_n
        if variance >= LEAST_VARIANCE:
            self.each_s = max(0.0, (self._ns / self._weight - mean_n * mean_s) / variance)
            self._is_known = True
        elif not self._is_known:
            self.each_s = mean_s / mean_n
        self.base_s = max(0.0, mean_s - self.each_s * mean_n)


#: Fields that every output has.
_PLAIN = ("sequence_id", "token_ids", "logprobs", "finish_reason", "error", "vector")


def _unpacked_likely(likely: Any) -> list[Likely]:
    match likely:
        case [*pairs] if all(_is_pair(pair) for pair in pairs):
            return [Likely(*pair) for pair in pairs]
    raise ValueError(f"what are no likely tokens: {likely!r:.200}")


def _unpacked_prompt(entry: Any) -> TokenLogprob:
    match entry:
        case [None | float() as logprob, likely]:
            return TokenLogprob(logprob, _unpacked_likely(likely))
    raise ValueError(f"what is no token of a prompt: {entry!r:.200}")


def _is_pair(pair: Any) -> bool:
    match pair:
        case [int(token_id), float()]:
            return token_id >= 0
    return False


def _packed(output: SequenceOutput) -> list[Any]:
    vector = None if output.vector is None else base64.b64encode(output.vector).decode()
    # JSON has no infinity.
    logprobs = output.logprobs and [_possible(x) for x in output.logprobs]
    packed = [output.sequence_id, list(output.token_ids), logprobs, output.finish_reason, output.error, vector]
    if output.likely is None and output.prompt is None and output.cached is None:
        return packed
    likely = None if output.likely is None else [_packed_likely(one) for one in output.likely]
    prompt = None if output.prompt is None else [_packed_prompt(one) for one in output.prompt]
    return [*packed, likely, prompt, output.cached]


def _packed_prompt(one: TokenLogprob) -> list[Any]:
    return [one.logprob if one.logprob is None else _possible(one.logprob), _packed_likely(one.likely)]


def _possible(logprob: float) -> float:
    return logprob if math.isfinite(logprob) else IMPOSSIBLE


def _packed_likely(likely: Sequence[Likely]) -> list[list[Any]]:
    return [[token_id, _possible(logprob)] for token_id, logprob in likely]


def _unpacked(fields: Any) -> SequenceOutput:
    match fields:
        case [*plain, None | [*_] as likely, None | [*_] as prompt, None | int() as cached] if len(plain) == len(
            _PLAIN
        ):
            return _unpacked(plain)._replace(
                likely=likely and [_unpacked_likely(one) for one in likely],
                prompt=prompt and [_unpacked_prompt(one) for one in prompt],
                cached=cached and max(0, cached),
            )
        case [int(), [*ids], None | [*_] as logprobs, None | str() as finish, None | str(), None | str() as vector]:
            numbers = all(type(i) is int and i >= 0 for i in ids) and all(type(x) is float for x in logprobs or ())
            if numbers and (finish is None or finish in FINISH_REASONS):
                output = SequenceOutput(*fields)
                return output if vector is None else output._replace(vector=base64.b64decode(vector))
    raise ValueError(f"what is no output of a sequence: {fields!r:.200}")
