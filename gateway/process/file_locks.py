"""Kernel locks on files (flock): held by one process at a time, and freed when it ends for any reason.

The holder of a lock may remove its file. So a lock counts only if its file is still at its path: else a process that
waited for the removed file, and one that made the next file, would both have it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path


def try_lock(path: Path) -> int | None:
    """Take a lock; its file is made if necessary. Returns a handle, to be closed to release it; None if it is taken."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        if not try_flock(handle):
            os.close(handle)
            return None
        if _is_at(handle, path):
            return handle
        os.close(handle)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait for a lock, and hold it in the context. Its file is made if necessary, and stays."""
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def remove_lock(path: Path, handle: int) -> None:
    """Release a lock, and remove its file."""
    path.unlink(missing_ok=True)
    os.close(handle)


def try_flock(handle: int) -> bool:
    """Lock an open file without waiting. Returns whether this handle has the lock now."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False
