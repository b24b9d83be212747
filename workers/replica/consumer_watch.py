"""Watches the consumer of wake-up messages. If it hangs for long, the process ends."""

from __future__ import annotations

import logging
import os
import threading
import time

from gateway.process.crashes import report
from gateway.process.start import LOST_A_LOOP
from workers.replica.lifetime import Lifetime

log = logging.getLogger(__name__)

#: Without a sign of life, the consumer is unhealthy after the first time, and the process ends after the second.
DEAF_S, GONE_DEAF_S = 5.0, 60.0


class ConsumerWatch:
    """The consumer's last sign of life. Thread-safe."""

    def __init__(self, life: Lifetime) -> None:
        self._life = life
        #: Set when Celery consumes its queues for the first time.
        self.begun = threading.Event()
        #: The last sign of life, by the steady clock; 0 = not begun.
        self._at_work = 0.0

    def at_work(self) -> None:
        """A sign of life: it consumes the right queues."""
        self._at_work = time.monotonic()

    def excuse(self, now: float) -> None:
        """Ignore the silence until now, which was not its fault."""
        self._at_work = self._at_work and now

    def is_deaf(self, now: float) -> bool:
        """Whether it has been silent for `DEAF_S`."""
        return self._silent_s(now) > DEAF_S

    def end_if_gone(self, now: float) -> None:
        """End the process if it has been silent for `GONE_DEAF_S`."""
        if self._silent_s(now) > GONE_DEAF_S:
            report("its consumer of messages has ended")
            log.critical("no messages are taken for %.0f s, so this process ends", GONE_DEAF_S)
            os._exit(LOST_A_LOOP)

    def _silent_s(self, now: float) -> float:
        """Seconds since its last sign of life; 0 before it begins."""
        over = self._at_work == 0 or self._life.stopping.is_set() or self._life.over.is_set()
        return 0.0 if over else now - self._at_work
