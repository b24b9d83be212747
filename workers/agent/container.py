"""`python -m workers.agent.container`: the only process of a worker's container. It knows neither jobs nor models.

Model workers outlive their agent, but nothing outlives its container. So this process looks after what the agent
leaves, adopts it where the system lets it, and starts the agent again while there is something to look after. At
SIGTERM it ends the agent, then lets the model workers finish their running requests for `shutdown_s`, and ends last.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import threading
import time
from itertools import pairwise

import psutil

from gateway.backoff import Backoff
from gateway.process.children import adopt_orphans, end, reap
from gateway.process.environment import without_admin_key
from gateway.process.start import how_ended, module_command, run
from gateway.settings import Settings
from workers.agent.replica_locks import holders_here

log = logging.getLogger("headrace.container")

#: Back-off before the agent is started again.
BACKOFF = Backoff(first_s=0.5, last_s=30.0)
#: An agent that ran for this long had started: it is started again at once.
STARTED_S = 10.0
#: Seconds for the agent to end after SIGTERM; and for a model worker, beside `shutdown_s`.
AGENT_END_S, WORKER_END_S = 10.0, 5.0
_LOOK_S = 0.1


class Container:
    """The agent, and the model workers that it starts."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._agent = 0
        #: All that were started.
        self._agents: set[str] = set()
        self._failures = 0
        self._started_at = self._next_start = 0.0

    def run(self, stopping: threading.Event) -> int:
        """Run until a signal, or until the agent ends and leaves nothing. Returns the exit status."""
        self._start()
        while not stopping.wait(_LOOK_S):
            for pid, status in reap():
                if pid == self._agent:
                    self._note_end(status)
                    if not self._left():
                        return status or 1
            if not self._agent and time.monotonic() >= self._next_start:
                self._start()
        self._drain()
        return 0

    def _start(self) -> None:
        environ = without_admin_key({**os.environ, **self._settings.environ()})
        process = subprocess.Popen(module_command("workers.agent"), env=environ, stdin=subprocess.DEVNULL)
        process.returncode = 0  # it is reaped with all others
        self._agent, self._started_at = process.pid, time.monotonic()
        self._agents.add(str(process.pid))

    def _note_end(self, status: int) -> None:
        self._failures = 1 if time.monotonic() - self._started_at > STARTED_S else self._failures + 1
        self._next_start = time.monotonic() + BACKOFF.pause_s(self._failures)
        self._agent = 0
        log.error("the agent %s", how_ended(status))

    def _drain(self) -> None:
        """End the agent, which would start its model workers again, and then them."""
        if self._agent:
            end({self._agent}, AGENT_END_S)
        if workers := self._left():
            log.info("%d model workers end when their requests have, within %g s", len(workers), self.shutdown_s)
            end(workers, self.shutdown_s + WORKER_END_S)
        log.info("all have ended")

    def _left(self) -> set[int]:
        """The model workers that an agent has left: children, and those that hold their locks but were not adopted, as
        some systems have it. Their own children are theirs to end.
        """
        left = {holder.pid for holder in holders_here(self._settings) if self._started_by_agent(holder.pid)}
        return left | {child.pid for child in psutil.Process().children()}

    def _started_by_agent(self, pid: int) -> bool:
        """Whether an agent of this container has started a model worker: others may have the same folder."""
        try:
            words = psutil.Process(pid).cmdline()
        except psutil.Error:
            return False
        return any(pair[0] == "--agent" and pair[1] in self._agents for pair in pairwise(words))

    @property
    def shutdown_s(self) -> float:
        """How long running requests may take."""
        return self._settings.shutdown_s


def main(settings: Settings) -> int:
    """Run until SIGTERM or SIGINT."""
    adopt_orphans()
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    return Container(settings).run(stopping)


if __name__ == "__main__":
    run(main)
