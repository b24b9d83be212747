"""Whether a process has ended of itself: by a fatal signal, for want of memory, or because it has lost a loop.

A worker that somebody kills says nothing about the jobs that it had. One that has ended of itself may have done so for
one of them. Python's faulthandler leaves a traceback in a file, and a loop that ends its process a line: the file is
empty otherwise. The kernel counts the processes that it has killed for want of memory.
"""

from __future__ import annotations

import contextlib
import faulthandler
from pathlib import Path
from typing import IO

#: Where this process leaves word; open for as long as it lives.
_reports: list[IO[str]] = []


def report_into(path: Path) -> None:
    """Leave word in this file if this process ends of itself."""
    file = path.open("w")
    _reports.append(file)
    faulthandler.enable(file, all_threads=False)


def report(text: str) -> None:
    """Leave word that this process ends of itself now."""
    for file in _reports:
        with contextlib.suppress(OSError):
            file.write(f"{text}\n")
            file.flush()


def oom_kills(vmstat: Path = Path("/proc/vmstat")) -> int:
    """How many processes the kernel of this machine has killed for want of memory; 0 if it does not tell."""
    try:
        fields = dict(line.split() for line in vmstat.read_text().splitlines())
    except OSError:
        return 0
    return int(fields.get("oom_kill", 0))
