"""The children of a process that others are left to: it adopts orphans, reaps what has ended, and ends what lives."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import time

import psutil

log = logging.getLogger(__name__)

_PR_SET_CHILD_SUBREAPER = 36
_LOOK_S = 0.05


def adopt_orphans() -> None:
    """From now on processes whose parent ends become children of this one, if it is their ancestor.

    Where the system refuses, the log says so: nothing may depend on it alone.
    """
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, *map(ctypes.c_ulong, (1, 0, 0, 0))):
        log.warning("orphans are not adopted: %s", os.strerror(ctypes.get_errno()))


def reap() -> list[tuple[int, int]]:
    """All children that have ended: pid, and exit status as of `subprocess` (negative: the signal's number)."""
    ended: list[tuple[int, int]] = []
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        ended.append((pid, os.waitstatus_to_exitcode(status)))


def end(pids: set[int], timeout_s: float) -> None:
    """SIGTERM, then SIGKILL for those that are left."""
    deadline = time.monotonic() + timeout_s
    send(pids, signal.SIGTERM)
    while (pids := alive(pids)) and time.monotonic() < deadline:
        reap()
        time.sleep(_LOOK_S)
    send(pids, signal.SIGKILL)
    while alive(pids):
        reap()
        time.sleep(_LOOK_S)
    reap()


def send(pids: set[int], number: signal.Signals) -> None:
    """Send a signal to those that are still there."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def alive(pids: set[int]) -> set[int]:
    """Those that have not ended."""
    return {pid for pid in pids if psutil.pid_exists(pid) and _state(pid) != psutil.STATUS_ZOMBIE}


def _state(pid: int) -> str:
    try:
        return str(psutil.Process(pid).status())
    except psutil.NoSuchProcess:
        return str(psutil.STATUS_ZOMBIE)
