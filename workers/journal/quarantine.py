"""Jobs that may kill whoever runs them: when they are given up, and how they wait for their turn until then.

They wait without a thread or a slot that others could use. Knows no Redis.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from gateway.jobs.record import JobHead

#: A job that so many engines or workers have died of is under suspicion.
SUSPECT_CRASHES = 2
#: Claims in a row that come to nothing before a job is given up, whatever the reason.
MAX_LOSSES = 20


@dataclass(frozen=True)
class Verdict:
    """Why a job is given up, as its client is told; `more` is what else the error says."""

    reason: str
    message: str
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PoisonRule:
    """When a job is given up that has been the end of several who ran it."""

    #: Who dies of it, for people.
    runner: str
    #: Deaths that it may be the cause of; 0 = here nobody's death is blamed on a job.
    max_crashes: int = 0
    #: The reason of its error when these are reached.
    crashed: str = "worker_crashed"
    #: The reason when it was begun too often, and what else that error says.
    lost: str = "internal_error"
    more: Mapping[str, Any] = field(default_factory=dict)

    def verdict(self, job: JobHead) -> Verdict | None:
        """None: it may run."""
        if 0 < self.max_crashes <= job.crashes:
            return Verdict(self.crashed, f"{self.runner} died {job.crashes} times while it ran this job.", self.more)
        if job.losses >= MAX_LOSSES:
            text = f"The job was begun {job.losses} times in a row and never came far."
            return Verdict(self.lost, text, self.more)
        return None


class Turnstile:
    """Lets so many suspects through at once. `call` is told whose turn it is when one of them has left."""

    def __init__(self, count: int, call: Callable[[str], None]) -> None:
        self._free = count
        self._call = call
        self._waiting: dict[str, None] = {}
        self._lock = threading.Lock()

    @contextmanager
    def turn(self, job_id: str) -> Iterator[bool]:
        """Whether it is this job's turn now. If not, it is remembered, and called later."""
        with self._lock:
            mine = self._free > 0
            if mine:
                self._free -= 1
                self._waiting.pop(job_id, None)
            else:
                self._waiting.setdefault(job_id)
        try:
            yield mine
        finally:
            if mine:
                self._leave()

    def _leave(self) -> None:
        with self._lock:
            self._free += 1
            following = next(iter(self._waiting), None)
            if following is not None:
                del self._waiting[following]
        if following is not None:
            self._call(following)
