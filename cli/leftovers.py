"""Finds and ends the processes of a data folder by the locks that they hold, whether their supervisor lives or not."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil

from gateway.errors import Unavailable
from gateway.process.locks import Holder, lock_holder, lock_holders, lock_path

#: Seconds to end after SIGTERM, then after SIGKILL.
END_S, KILLED_S = 6.0, 5.0
#: Names of the locks of the embedded Redis: of its process, and of its data.
REDIS = ("redis", "redis-server")
_LOOK_S = 0.05


def running(data_dir: Path) -> dict[str, Holder]:
    """The living processes by name, each once, without the supervisor."""
    names: dict[int, str] = {}
    holders = lock_holders(data_dir)
    for name, holder in holders.items():
        if name != "up":
            names.setdefault(holder.pid, name)
    return {name: holders[name] for name in sorted(names.values())}


def end(data_dir: Path, names: Iterable[str], *, grace_s: float = END_S) -> None:
    """End the processes that hold these locks, and their children: first those that use Redis, then Redis.

    `grace_s` is the time from SIGTERM to SIGKILL.

    Raises:
        Unavailable: one of them does not end, even after SIGKILL.
    """
    names = list(names)
    for group in ([name for name in names if name not in REDIS], [name for name in names if name in REDIS]):
        family = [process for name in group for process in _family(data_dir, name)]
        left = _signal(data_dir, group, signal.SIGTERM, grace_s)
        left = _signal(data_dir, left, signal.SIGKILL, KILLED_S)
        deadline = time.monotonic() + KILLED_S
        while (family := [one for one in family if _lives(one)]) and time.monotonic() < deadline:
            time.sleep(_LOOK_S)
        if left or family:
            who = ", ".join([*left, *(f"process {one.pid}" for one in family)])
            raise Unavailable(f"Still running in {data_dir}, in spite of SIGKILL: {who}.")


def _signal(data_dir: Path, names: list[str], number: signal.Signals, timeout_s: float) -> list[str]:
    """Signal the holders of these locks, and wait until the locks are free. Returns those that are not."""
    deadline = time.monotonic() + timeout_s
    for name in names:
        _send(data_dir, name, number)
    while (names := [name for name in names if lock_holder(data_dir, name)]) and time.monotonic() < deadline:
        time.sleep(_LOOK_S)
    return names


def _send(data_dir: Path, name: str, number: signal.Signals) -> None:
    """Signal the holder of a lock or, if it is dead, the processes that inherited the lock."""
    holder, path = lock_holder(data_dir, name), lock_path(data_dir, name)
    if holder is None or _reaches(holder.pid, path, number):
        return
    for pid in psutil.pids():
        _reaches(pid, path, number)


def _reaches(pid: int, path: Path, number: signal.Signals) -> bool:
    """Signal a process if it has the file open, since its pid may have been reused."""
    if pid == os.getpid():
        return False
    try:
        handle = os.pidfd_open(pid)
    except OSError:  # there is no such process
        return False
    try:
        wanted = path.stat()
        found = any(os.path.samestat(opened, wanted) for opened in _open_files(pid))
        if found:
            signal.pidfd_send_signal(handle, number)
    except OSError:  # it has just ended, or belongs to another user
        return False
    finally:
        os.close(handle)
    return found


def _open_files(pid: int) -> Iterator[os.stat_result]:
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            yield entry.stat()


def _family(data_dir: Path, name: str) -> list[psutil.Process]:
    """The holder of a lock and its children, except model workers, which have a lock of their own."""
    holder = lock_holder(data_dir, name)
    locked = {one.pid for one in lock_holders(data_dir).values()}
    found = [psutil.Process(holder.pid)] if holder and psutil.pid_exists(holder.pid) else []
    parents = list(found)
    while parents:
        with contextlib.suppress(psutil.NoSuchProcess):
            children = [child for child in parents.pop().children() if child.pid not in locked]
            found += children
            parents += children
    return found


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
