"""Steps: the frame with their outputs, which an engine process packs and a model worker checks, and what they take."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workers.engines.base import FINISH_REASONS, SequenceOutput

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
    """The outputs of one or more steps, and the number of sequences in the engine after them.

    A step takes `base_s` seconds, and `each_s` more for each sequence; both are 0 if that is not known.
    """

    outputs: Sequence[SequenceOutput]
    sequences: int
    steps: int
    base_s: float = 0.0
    each_s: float = 0.0

    def pack(self) -> dict[str, Any]:
        """As it crosses processes."""
        outputs = [_packed(output) for output in self.outputs]
        times = [self.base_s, self.each_s]
        return {"op": "step", "out": outputs, "sequences": self.sequences, "steps": self.steps, "times": times}

    @classmethod
    def parse(cls, frame: Any) -> StepFrame:
        """Raises: ValueError if the frame is not one of steps."""
        match frame:
            case {
                "op": "step",
                "out": [*outputs],
                "sequences": int(sequences),
                "steps": int(steps),
                "times": [float(base_s), float(each_s)],
            }:
                return cls([_unpacked(fields) for fields in outputs], sequences, steps, base_s, each_s)
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


def _packed(output: SequenceOutput) -> list[Any]:
    vector = None if output.vector is None else base64.b64encode(output.vector).decode()
    # JSON has no infinity.
    logprobs = output.logprobs and [x if math.isfinite(x) else IMPOSSIBLE for x in output.logprobs]
    return [output.sequence_id, list(output.token_ids), logprobs, output.finish_reason, output.error, vector]


def _unpacked(fields: Any) -> SequenceOutput:
    match fields:
        case [int(), [*ids], None | [*_] as logprobs, None | str() as finish, None | str(), None | str() as vector]:
            numbers = all(type(i) is int and i >= 0 for i in ids) and all(type(x) is float for x in logprobs or ())
            if numbers and (finish is None or finish in FINISH_REASONS):
                output = SequenceOutput._make(fields)
                return output if vector is None else output._replace(vector=base64.b64decode(vector))
    raise ValueError(f"what is no output of a sequence: {fields!r:.200}")
