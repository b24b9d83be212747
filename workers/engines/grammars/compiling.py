"""Grammars that are being compiled, beside the steps of an engine: one at a time, for a sequence each."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from workers.engines.base import EngineRequestError

log = logging.getLogger("headrace.engine")

#: What a grammar becomes.
Compiled = TypeVar("Compiled")


class Compiling(Generic[Compiled]):
    """The sequences that wait for their grammars. All calls come from one thread; `wake` is called in another."""

    def __init__(self, wake: Callable[[], None] = lambda: None) -> None:
        self._thread = ThreadPoolExecutor(1, "grammars")
        self._wake = wake
        self._waiting: dict[int, Future[Compiled]] = {}

    def start(self, sequence_id: int, compile_it: Callable[[], Compiled]) -> None:
        """Compile for a sequence, behind those that came before."""
        future = self._thread.submit(compile_it)
        self._waiting[sequence_id] = future
        future.add_done_callback(lambda _: self._wake())

    def forget(self, sequence_id: int) -> bool:
        """Nobody wants it any more. Returns whether it was waiting."""
        future = self._waiting.pop(sequence_id, None)
        return future is not None and (future.cancel() or True)

    def finished(self) -> list[tuple[int, Compiled | EngineRequestError]]:
        """What has been compiled since the last call, or can't be."""
        done = [(i, future) for i, future in self._waiting.items() if future.done()]
        for i, _ in done:
            del self._waiting[i]
        return [(i, self._outcome(future)) for i, future in done]

    def wait(self, timeout_s: float) -> None:
        """Until the first of them is finished, if nothing else is to be done."""
        if future := next(iter(self._waiting.values()), None):
            try:
                future.exception(timeout_s)
            except TimeoutError:
                return

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    @staticmethod
    def _outcome(future: Future[Compiled]) -> Compiled | EngineRequestError:
        error = future.exception()
        if error is None:
            return future.result()
        if isinstance(error, EngineRequestError):
            return error
        log.error("a grammar can't be compiled", exc_info=error)
        return EngineRequestError(f"The grammar can't be compiled: {error!r:.300}")
