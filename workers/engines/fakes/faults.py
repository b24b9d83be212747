"""Faults of the fake engine, triggered by words in a prompt.

Options, each with the word that sets it off: `crash_word`, `hang_word`, `raise_word`, `garbage_word`, at the token
number of `crash_at` and so on: the process ends, no step ends any more, a step raises, the output is one of `GARBAGE`
(`garbage` names it). `hog_word`, `hog_at`: each step takes `HOG_BYTES` more memory. `refuse_word`: the request is not
taken, by an error of no class of ours. `broken_by`: with `raise`, all steps raise behind the first that did.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from workers.engines.base import SequenceOutput, SequenceRequest

HOG_BYTES = 32 << 20
#: Outputs that no engine may send, by what is wrong with them.
GARBAGE: Mapping[str, Callable[[SequenceOutput], SequenceOutput]] = {
    "tokens": lambda output: output._replace(token_ids=["x"]),  # type: ignore[list-item]
    "id": lambda output: output._replace(sequence_id=10**9),
    "finish": lambda output: output._replace(finish_reason="bored"),
}


class Faults:
    """The faults that the options ask for. `token_of` maps a word of a prompt to its token."""

    def __init__(self, options: Mapping[str, Any], token_of: Callable[[str], int]) -> None:
        self._options = options
        self._token_of = token_of
        self._hoard: list[bytes] = []
        self._broken = False

    def on_add(self, request: SequenceRequest) -> None:
        """Before a request is taken."""
        if self._hits("refuse", request):
            raise RuntimeError("The option refuse_word says so.")

    def on_token(self, request: SequenceRequest, position: int) -> None:
        """Before a token is made."""
        if self._hits("crash", request, position):
            os._exit(70)
        if self._hits("hang", request, position):
            time.sleep(3600)
        if self._broken or self._hits("raise", request, position):
            self._broken = self._options.get("broken_by") == "raise"
            raise RuntimeError("The option raise_word says so.")
        if self._hits("hog", request, position):
            self._hoard.append(b"\x01" * HOG_BYTES)

    def on_output(self, request: SequenceRequest, position: int, output: SequenceOutput) -> SequenceOutput:
        """The output to report instead."""
        if self._hits("garbage", request, position):
            return GARBAGE[self._options.get("garbage", "tokens")](output)
        return output

    def _hits(self, fault: str, request: SequenceRequest, position: int = 0) -> bool:
        word, at = self._options.get(f"{fault}_word"), int(self._options.get(f"{fault}_at", 0))
        if not word or position < at:
            return False
        # Not in what was generated before a resume: any token may come there.
        prompt = request.prompt_ids[: len(request.prompt_ids) - request.generated]
        return self._token_of(str(word)) in prompt
