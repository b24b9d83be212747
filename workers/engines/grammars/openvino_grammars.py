"""Grammars of OpenVINO GenAI (xgrammar's EBNF): tried elsewhere first, then compiled beside the pipeline's steps."""

from __future__ import annotations

import logging
import os
import threading
from typing import Any

from workers.engines.base import EngineRequestError
from workers.engines.grammars.stand_in import StandIn, why_not
from workers.engines.grammars.trial import Trial
from workers.engines.grammars.trial_process import NICENESS

log = logging.getLogger("headrace.engine")


class OpenVinoGrammars:
    """The grammars of one pipeline, which keeps what is compiled here."""

    def __init__(self, tokenizer: Any, model_path: str, vocabulary: int) -> None:
        """Before the pipeline makes steps. Raises: RuntimeError if its tokenizer can't be used."""
        eos_id = max(0, int(tokenizer.get_eos_token_id()))
        self._stand_in = StandIn(tokenizer, vocabulary, eos_id)
        self._trial = Trial(model_path, vocabulary, eos_id)
        self._busy = threading.Lock()
        self._cleared = 0

    @classmethod
    def of(cls, pipeline: Any, model_path: str, vocabulary: int) -> OpenVinoGrammars | None:
        """None for a model without a tokenizer that the library can use."""
        try:
            return cls(pipeline.get_tokenizer(), model_path, vocabulary)
        except RuntimeError as error:
            log.warning("this model can't follow grammars: %s", why_not(error))
            return None

    def compile(self, grammar: str) -> float:
        """May take seconds, without the GIL, and yields to all others. Returns the processor time of each token.

        Raises: EngineRequestError.
        """
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        each_s = self._trial.require(grammar)
        with self._busy:
            try:
                self._stand_in.compile(grammar)
            except Exception as error:
                raise EngineRequestError(f"The grammar can't be compiled: {why_not(error)}") from error
        return each_s

    def tidy(self) -> None:
        """Between two steps: forget all grammars, if there are too many. None may be compiled that was not begun."""
        if self._trial.ended > self._cleared and self._busy.acquire(blocking=False):
            try:
                self._cleared = self._trial.ended
                self._stand_in.clear()
            finally:
                self._busy.release()

    def close(self) -> None:
        """End the process that tries grammars."""
        self._trial.close()
