"""Locks of the processes of this machine: held for a process' life, and so never stale. Adoption goes by them."""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Holder:
    """Who holds a lock."""

    pid: int
    incarnation: str


def lock_path(data_dir: Path, name: str) -> Path:
    """Where a lock file lies."""
    return data_dir / "run" / f"{name}.lock"


def hold_lock(data_dir: Path, name: str, incarnation: str = "") -> int | None:
    """Take a lock for the life of this process; None if another holds it."""
    path = lock_path(data_dir, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    os.ftruncate(handle, 0)
    os.write(handle, f"{os.getpid()} {incarnation}".encode())
    return handle


def lock_holder(data_dir: Path, name: str) -> Holder | None:
    """Who holds a lock, or None if nobody does."""
    try:
        handle = os.open(lock_path(data_dir, name), os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read(handle)
    else:
        return None
    finally:
        os.close(handle)


def last_holder(data_dir: Path, name: str) -> Holder | None:
    """Who has the lock, or had it last; None if nobody ever did."""
    try:
        handle = os.open(lock_path(data_dir, name), os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        return _read(handle)
    finally:
        os.close(handle)


def _read(handle: int) -> Holder:
    pid, _, incarnation = os.read(handle, 256).decode().partition(" ")
    return Holder(int(pid or 0), incarnation)


def drop_lock(data_dir: Path, name: str) -> None:
    """Remove the file of a lock that nobody holds."""
    if lock_holder(data_dir, name) is None:
        lock_path(data_dir, name).unlink(missing_ok=True)
