"""Time-outs and retries of the network, in one place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from gateway.backoff import Backoff
from gateway.deployments.reasons import FailureReason, SourceFailed
from workers.sources.base import Log
from workers.sources.pump import wait

T = TypeVar("T")

#: Default back-off between tries.
BACKOFF = Backoff(first_s=1.0, last_s=30.0, jitter=0.25)


@dataclass(frozen=True)
class Limits:
    """Times are seconds."""

    connect_timeout_s: float = 10.0
    #: Longest silence within an answer. None: that of huggingface_hub (HF_HUB_DOWNLOAD_TIMEOUT).
    silence_timeout_s: float | None = None
    #: A connection that is slower than this, over the following time, is taken for dead.
    slow_bytes_per_s: int = 4096
    slow_window_s: float = 30.0
    #: Tries after the first one.
    max_retries: int = 6
    #: A try that brought this many bytes is not counted as a failure.
    progress_bytes: int = 1 << 20
    #: Back-off between tries; a longer wait that a server asks for is respected up to `last_s`.
    backoff: Backoff = BACKOFF


class Interrupted(Exception):
    """The network or the server failed in a way that may pass; `retry_after_s` is what the server asked for, or 0."""

    def __init__(self, message: str, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Tries:
    """Counts failures of one thing, and waits between tries."""

    def __init__(self, limits: Limits, is_cancelled: Callable[[], bool], log: Log) -> None:
        self._limits = limits
        self._is_cancelled = is_cancelled
        self._log = log
        self._failures = 0

    def after(self, error: Interrupted, *, brought: int = 0, where: str = "") -> None:
        """Wait before the next try, `brought` bytes after the last. Raises: SourceFailed if it was the last one."""
        limits = self._limits
        self._failures = 1 if brought >= limits.progress_bytes else self._failures + 1
        if self._failures > limits.max_retries:
            raise SourceFailed(
                FailureReason.SOURCE_UNREACHABLE, f"{error} It was the last of {limits.max_retries + 1} tries{where}."
            ) from error
        asked_s = min(error.retry_after_s, limits.backoff.last_s)
        pause_s = max(limits.backoff.pause_s(self._failures), asked_s)
        self._log(f"{error} Trying again in {pause_s:.1f} s{where}.")
        wait(pause_s, self._is_cancelled)


def retry(call: Callable[[], T], limits: Limits, is_cancelled: Callable[[], bool], log: Log) -> T:
    """The result of a call that may be Interrupted. Raises: SourceFailed."""
    tries = Tries(limits, is_cancelled, log)
    while True:
        try:
            return call()
        except Interrupted as error:
            tries.after(error)
