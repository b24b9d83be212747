"""Tells crashes from kills: a crash is a fatal signal, running out of memory, or the end of a loop.

A worker that was killed says nothing about its jobs; one that crashed may have crashed because of one of them. Python's
faulthandler leaves a traceback in a file, and a loop that ends its process leaves a line: otherwise the file is empty.
The kernel counts its OOM kills.
"""

from __future__ import annotations

import contextlib
import faulthandler
from pathlib import Path
from typing import IO

#: The report file of this process, open for as long as it lives.
_reports: list[IO[str]] = []


def report_into(path: Path) -> None:
    """Report a crash of this process in this file."""
    file = path.open("w")
    _reports.append(file)
    faulthandler.enable(file, all_threads=False)


def report(text: str) -> None:
    """Report that this process crashes now."""
    for file in _reports:
        with contextlib.suppress(OSError):
            file.write(f"{text}\n")
            file.flush()


def oom_kills(vmstat: Path = Path("/proc/vmstat")) -> int:
    """The OOM kills of this machine's kernel so far; 0 if it does not count them."""
    try:
        fields = dict(line.split() for line in vmstat.read_text().splitlines())
    except OSError:
        return 0
    return int(fields.get("oom_kill", 0))
