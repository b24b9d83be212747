"""How the processes of this room are started, and what they do first."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from typing import IO, Any

from workers.engines import run_alone
from workers.engines.frames import FrameSocket
from workers.engines.log_lines import LineFormatter, wants_json

#: Variables that tell a Python interpreter where its packages are.
OF_THIS_INTERPRETER = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
#: Only the owner may read what the processes write.
UMASK = 0o077

log = logging.getLogger("headrace.engine")


def spawn(
    module: str,
    *,
    python: str = "",
    env: Mapping[str, str] | None = None,
    stdout: int | IO[bytes] | None = None,
) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start a module of this room, under this interpreter or another. Returns the process and our end of its socket."""
    env = os.environ if env is None else env
    if python:  # the packages of this interpreter are of no use to another
        env = {name: value for name, value in env.items() if name not in OF_THIS_INTERPRETER}
    ours, theirs = socket.socketpair()
    with theirs:
        command = [python or sys.executable, "-P", run_alone.__file__, module, str(theirs.fileno())]
        process = subprocess.Popen(
            command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=stdout, env=env, umask=UMASK
        )
    return process, ours


def greet(frames: FrameSocket, hello: Mapping[str, Any]) -> None:
    """Send a child its first frame. One that has ended by then is noticed by the caller's first read."""
    with contextlib.suppress(OSError):
        frames.send(hello)


def parent() -> FrameSocket:
    """The socket to the process that has started this one."""
    return FrameSocket(socket.socket(fileno=int(sys.argv[1])))


def log_lines(who: str = "") -> None:
    """Every process of this room calls this first: log to stderr, also for libraries and uncaught exceptions."""
    handler = logging.StreamHandler()
    handler.setFormatter(LineFormatter(as_json=wants_json(), who=who))
    logging.basicConfig(level="INFO", handlers=[handler], force=True)
    logging.captureWarnings(True)
    threading.excepthook = lambda end: log.error("a thread has ended", exc_info=end.exc_value)
    sys.excepthook = lambda _, error, __: log.critical("this process ends", exc_info=error)
