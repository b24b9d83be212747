"""Threads that repeat a step, whatever it raises. Knows nothing of what the steps do.

A living process with a dead loop is worse than a dead process, which is noticed and restarted.
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

#: Pause after a failed step.
BACKOFF = Backoff(first_s=0.1, last_s=1.0)


@contextlib.contextmanager
def guarded(what: str) -> Iterator[None]:
    """Context of one item in a loop: what it raises is logged, and the loop continues with the next item.

    Raises: NOT_NOW.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, NOT_NOW) and not is_lasting(error):
            raise
        log.exception("%s", what)


def repeat(step: Callable[[], object], *, name: str, over: Callable[[], bool]) -> None:
    """Call `step` until `over()`, which may wait. What a step raises is logged, and the next follows after a pause."""
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
    """A daemon thread around `repeat`. If it ends in another way, it ends its process."""

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
