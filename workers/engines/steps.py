"""The frame with the outputs of steps: packed by the engine process, checked and unpacked by the model worker."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workers.engines.base import FINISH_REASONS, SequenceOutput

#: The log probability of an impossible token, as OpenAI writes it.
IMPOSSIBLE = -9999.0


@dataclass(frozen=True)
class StepFrame:
    """The outputs of one or more steps, and the number of sequences in the engine after them."""

    outputs: Sequence[SequenceOutput]
    sequences: int
    steps: int

    def pack(self) -> dict[str, Any]:
        """As it crosses processes."""
        outputs = [_packed(output) for output in self.outputs]
        return {"op": "step", "out": outputs, "sequences": self.sequences, "steps": self.steps}

    @classmethod
    def parse(cls, frame: Any) -> StepFrame:
        """Raises: ValueError if the frame is not one of steps."""
        match frame:
            case {"op": "step", "out": [*outputs], "sequences": int(sequences), "steps": int(steps)}:
                return cls([_unpacked(fields) for fields in outputs], sequences, steps)
        named = sorted(frame) if isinstance(frame, Mapping) else type(frame).__name__
        raise ValueError(f"what is no step: {named!r:.200}")


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
