"""Actions that other threads post for the emitter, the only thread that writes a run's events."""

from __future__ import annotations

import queue
from collections.abc import Callable

from workers.journal.writer import Journaler
from workers.providers.run import ProviderRun


class Mailbox:
    """Actions in the order in which they were posted, each behind its run's bulkhead."""

    def __init__(self, journaler: Journaler) -> None:
        self._journaler = journaler
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()

    def post(self, action: Callable[[], None], run: ProviderRun) -> None:
        """Have the emitter run an action for a run, after all earlier ones."""

        def act() -> None:
            if run.state is None and not run.finished.is_set():
                with self._journaler.bulkhead(run):
                    action()
                    self._journaler.touch(run)

        self._inbox.put(act)

    def act(self, *, timeout_s: float) -> None:
        """Run all posted actions, so that a late emitter catches up in one append."""
        try:
            self._inbox.get(timeout=timeout_s)()
            while True:
                self._inbox.get_nowait()()
        except queue.Empty:
            return
