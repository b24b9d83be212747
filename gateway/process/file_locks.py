"""Locks of the kernel on files: one process at a time has one, and it is free when that has ended, however it did.

A file may be removed by whoever has its lock. So a lock counts only while its file is in its place: else whoever waited
for the removed file, and whoever made the next one, would both have it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path


def try_lock(path: Path) -> int | None:
    """Take a lock, whose file is made if need be. Close the handle to let it go; None if another has it."""
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
    """Wait for a lock, and have it meanwhile. Its file is made if need be, and stays."""
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def remove_lock(path: Path, handle: int) -> None:
    """Let a lock go, and its file with it."""
    path.unlink(missing_ok=True)
    os.close(handle)


def try_flock(handle: int) -> bool:
    """Whether an open file could be locked at once, or is locked by this handle already."""
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
