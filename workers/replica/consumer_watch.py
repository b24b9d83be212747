"""Whether a worker's consumer of wake-up messages is at work. One that is deaf for long takes its process with it."""

from __future__ import annotations

import logging
import os
import threading
import time

from gateway.process.crashes import report
from gateway.process.start import LOST_A_LOOP
from workers.replica.lifetime import Lifetime

log = logging.getLogger(__name__)

#: A consumer that does not look at its queues for so long is unhealthy, and the process ends after so long.
DEAF_S, GONE_DEAF_S = 5.0, 60.0


class ConsumerWatch:
    """When the consumer was last at work. Any thread may call it."""

    def __init__(self, life: Lifetime) -> None:
        self._life = life
        #: Celery takes messages from the queues.
        self.begun = threading.Event()
        #: By the steady clock; 0 = it has not begun.
        self._at_work = 0.0

    def at_work(self) -> None:
        """It lives, and takes messages from the right queues."""
        self._at_work = time.monotonic()

    def excuse(self, now: float) -> None:
        """It could not be at work until now."""
        self._at_work = self._at_work and now

    def is_deaf(self, now: float) -> bool:
        """Whether it should have been at work for a while."""
        return self._silent_s(now) > DEAF_S

    def end_if_gone(self, now: float) -> None:
        """End the process if it is deaf for too long."""
        if self._silent_s(now) > GONE_DEAF_S:
            report("its consumer of hints has ended")
            log.critical("no hints are taken for %.0f s, so this process ends", GONE_DEAF_S)
            os._exit(LOST_A_LOOP)

    def _silent_s(self, now: float) -> float:
        """For how long it has not been at work, though it should."""
        over = self._at_work == 0 or self._life.stopping.is_set() or self._life.over.is_set()
        return 0.0 if over else now - self._at_work
