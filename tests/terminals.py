"""A `headrace` command on a terminal of its own."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from tests.stack import PATIENCE_S, REPOSITORY


@contextmanager
def on_a_terminal(*words: str, environ: Mapping[str, str]) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The command, with a terminal of 40 rows and 120 columns, and our end of that."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (40, 120))
    process = subprocess.Popen(
        [sys.executable, "-m", "cli.main", *words],
        cwd=REPOSITORY,
        env={"TERM": "xterm", **environ},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        yield process, ours
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def read_until(terminal: int, text: str) -> str:
    """What is drawn, up to a text."""
    found, deadline = "", time.monotonic() + PATIENCE_S
    while text not in found:
        assert time.monotonic() < deadline, found
        if select.select([terminal], [], [], 0.2)[0]:
            try:
                found += os.read(terminal, 65_536).decode(errors="replace")
            except OSError:  # it has been closed
                break
    assert text in found, found
    return found
