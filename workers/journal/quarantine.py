"""Quarantine for jobs that may kill their engine or worker: when they fail, and how they wait for their turn.

They wait without a thread or a slot. Knows no Redis.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from gateway.jobs.record import JobHead

#: A job is quarantined after this many crashes of engines or workers that ran it.
QUARANTINE_CRASHES = 2
#: Claims in a row without progress, for any reason, before a job fails.
MAX_LOSSES = 20


@dataclass(frozen=True)
class Verdict:
    """The error of a job that is given up; `more` has further fields."""

    reason: str
    message: str
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PoisonRule:
    """When a job fails that has crashed several engines or workers."""

    #: What crashes, as a text for people.
    runner: str
    #: Crashes before it fails; 0 = crashes are not blamed on jobs here.
    max_crashes: int = 0
    #: The error's reason after that many crashes.
    crashed: str = "worker_crashed"
    #: The error's reason after too many claims, and further fields of that error.
    lost: str = "internal_error"
    more: Mapping[str, Any] = field(default_factory=dict)

    def verdict(self, job: JobHead) -> Verdict | None:
        """The error of a job that must not run again; None if it may run."""
        if 0 < self.max_crashes <= job.crashes:
            return Verdict(self.crashed, f"{self.runner} died {job.crashes} times while it ran this job.", self.more)
        if job.losses >= MAX_LOSSES:
            text = f"The job was begun {job.losses} times in a row and never came far."
            return Verdict(self.lost, text, self.more)
        return None


class Turnstile:
    """Lets `count` quarantined jobs run at once. When one has left, `call` is called with the id of the next."""

    def __init__(self, count: int, call: Callable[[str], None]) -> None:
        self._free = count
        self._call = call
        self._waiting: dict[str, None] = {}
        self._lock = threading.Lock()

    @property
    def is_free(self) -> bool:
        """Whether the next suspect would be let through."""
        return self._free > 0

    @contextmanager
    def turn(self, job_id: str) -> Iterator[bool]:
        """Yields whether it is this job's turn now. If not, `call` is called for it later."""
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
