"""Grammars in vLLM's batch: its scheduler asks these for masks, in the place of a library that it knows.

They are llguidance's under limits of ours (`workers/engines/grammars/token_masks.py`): what takes more, or can't be
followed, ends its own request.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence

import numpy
import torch

from workers.engines.base import EngineRequestError
from workers.engines.grammars.token_masks import Grammars, Matcher

log = logging.getLogger("headrace.engine")

#: Errors that are kept, until they are asked for.
MAX_ERRORS = 256


class FormBackend:
    """What vLLM calls a backend of structured output. Its scheduler compiles in a thread, and calls the rest itself."""

    def __init__(self, grammars: Grammars, vocabulary: int) -> None:
        self._grammars, self._words = grammars, -(-vocabulary // 32)
        self._errors: OrderedDict[str, str] = OrderedDict()

    def compile_grammar(self, kind: object, grammar: str, stop_token_ids: set[int] | None = None) -> Form:
        """A form for one answer. Raises: EngineRequestError."""
        try:
            return Form(
                self._grammars.matcher(grammar), sorted(stop_token_ids or ()), lambda why: self._note(grammar, why)
            )
        except EngineRequestError as error:
            self._note(grammar, str(error))
            raise

    def allocate_token_bitmask(self, count: int) -> torch.Tensor:
        """Room for so many masks: a bit for each token, set if it may come."""
        return torch.full((count, self._words), -1, dtype=torch.int32)

    def destroy(self) -> None:
        """At the end; there is nothing to do."""

    def why(self, grammar: str) -> str:
        """Why an answer in this form could not go on."""
        return self._errors.get(grammar, "The answer can't follow its grammar any more.")

    def _note(self, grammar: str, why: str) -> None:
        self._errors[grammar] = why
        while len(self._errors) > MAX_ERRORS:
            self._errors.popitem(last=False)


class Form:
    """What one answer may go on with."""

    def __init__(self, matcher: Matcher, eos_ids: Sequence[int], on_error: Callable[[str], None]) -> None:
        self._matcher, self._eos_ids, self._on_error = matcher, eos_ids, on_error
        self._failed = self._ended = False

    def fill_bitmask(self, masks: torch.Tensor, row: int) -> None:
        """Write the mask of the next token. If there is none, any may come: it will not be accepted."""
        try:
            packed = numpy.packbits(self._matcher.allowed(self._eos_ids)[:-1], bitorder="little")
        except EngineRequestError as error:
            self._fail(error)
            masks[row] = -1
        else:
            masks[row] = 0
            masks[row].numpy().view(numpy.uint8)[: len(packed)] = packed

    def accept_tokens(self, request_id: str, token_ids: list[int]) -> bool:
        """Whether these may come next; if not, the request ends."""
        self._ended = bool(token_ids) and token_ids[-1] in self._eos_ids
        try:
            self._matcher.push(token_ids[:-1] if self._ended else token_ids)
        except EngineRequestError as error:
            self._fail(error)
        return not self._failed

    def is_terminated(self) -> bool:
        """Whether the answer has ended."""
        return self._ended

    def _fail(self, error: EngineRequestError) -> None:
        if not self._failed:
            self._failed = True
            self._on_error(str(error))
