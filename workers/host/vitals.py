"""Measurements for heartbeats: memory, hardware, tokens per second."""

from __future__ import annotations

import functools
import os
import platform
import time
from collections import deque
from collections.abc import Iterable
from pathlib import Path

import psutil

#: Tokens per second are a mean over this time.
WINDOW_S = 10.0


class TokenRate:
    """Tokens per second over the steps of the last `WINDOW_S`."""

    def __init__(self) -> None:
        self._steps: deque[tuple[float, int]] = deque()
        self._last = 0.0

    def add(self, tokens: int) -> None:
        """Count one step."""
        self._steps.append((time.monotonic(), tokens))

    def per_second(self) -> float:
        """The present rate; the last one known when nothing runs."""
        while self._steps and self._steps[0][0] < time.monotonic() - WINDOW_S:
            self._steps.popleft()
        if len(self._steps) > 1:
            span_s = self._steps[-1][0] - self._steps[0][0]
            self._last = round(sum(tokens for _, tokens in self._steps) / span_s, 1) if span_s > 0 else self._last
        return self._last


def with_children(pid: int) -> list[int]:
    """A process and its descendants; empty if it is gone."""
    try:
        return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    except psutil.Error:
        return []


def resident_bytes(pids: Iterable[int]) -> int:
    """Resident memory of processes in bytes; those that are gone count 0."""
    total = 0
    for pid in pids:
        try:
            total += psutil.Process(pid).memory_info().rss
        except psutil.Error:
            continue
    return total


@functools.cache
def hardware() -> str:
    """The processor's name, as the operating system knows it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()} ({os.cpu_count()} CPUs)"
