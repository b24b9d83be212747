"""Threads that do one step again and again, whatever a step raises. Knows nothing of what the steps do.

A process that lives while one of its loops is dead is worse than a dead one, which is noticed and started again.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator

from gateway.backoff import Backoff
from gateway.process.crashes import report
from gateway.process.start import LOST_A_LOOP
from gateway.store.connection import NOT_NOW, is_lasting

log = logging.getLogger(__name__)

#: Behind a step that has failed.
BACKOFF = Backoff(first_s=0.1, last_s=1.0)


@contextlib.contextmanager
def guarded(what: str) -> Iterator[None]:
    """Around one item of a loop: what it raises is logged, and the others have their turn.

    Raises: NOT_NOW, if it is a matter of waiting.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, NOT_NOW) and not is_lasting(error):
            raise
        log.exception("%s", what)


def repeat(step: Callable[[], object], *, name: str, over: Callable[[], bool]) -> None:
    """Call `step` until `over`, which may wait. What a step raises is logged, and the next one follows soon."""
    failures = 0
    while True:
        try:
            if over():
                return
            step()
            failures = 0
            continue
        except NOT_NOW as error:
            log.warning("%s waits for Redis: %s", name, error)
        except Exception:
            log.exception("a step of %s failed; it goes on", name)
        failures += 1
        time.sleep(BACKOFF.pause_s(failures))


class Loop(threading.Thread):
    """A daemon thread around `repeat`. If it ends in any other way, it takes its process with it."""

    def __init__(self, step: Callable[[], object], *, name: str, over: Callable[[], bool]) -> None:
        super().__init__(name=name, daemon=True)
        self._step = step
        self._over = over

    def run(self) -> None:
        """The thread's body."""
        try:
            repeat(self._step, name=self.name, over=self._over)
        except BaseException:
            report(f"loop {self.name} has ended")
            log.critical("loop %s has ended; so does this process", self.name, exc_info=True)
            os._exit(LOST_A_LOOP)
