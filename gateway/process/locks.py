"""File locks of the processes of one data folder. Each is held for its process' life, so none is ever stale."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from gateway.process.crashes import oom_kills, report_into
from gateway.process.file_locks import remove_lock, try_flock, try_lock

#: A process that looks who holds a lock takes it for a moment, so taking a lock is tried for this long.
WAIT_S = 0.25
_TRY_S = 0.02


@dataclass(frozen=True)
class Holder:
    """The process that holds a lock."""

    pid: int
    incarnation: str
    #: The kernel's count of OOM kills when it took the lock.
    oom_kills: int = 0


def lock_path(data_dir: Path, name: str) -> Path:
    """The path of a lock file."""
    return data_dir / "run" / f"{name}.lock"


def hold_lock(
    data_dir: Path, name: str, incarnation: str = "", *, wait_s: float = WAIT_S, over_exec: bool = False
) -> int | None:
    """Take a lock for the life of this process; None if another still holds it after `wait_s`.

    With `over_exec` it stays held after an exec, and by children that inherit its descriptors.
    """
    path = lock_path(data_dir, name)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    deadline = time.monotonic() + wait_s
    while (handle := try_lock(path)) is None:
        if time.monotonic() > deadline:
            return None
        time.sleep(_TRY_S)
    os.set_inheritable(handle, over_exec)
    os.ftruncate(handle, 0)
    os.write(handle, f"{os.getpid()} {incarnation} {oom_kills()}".encode())
    return handle


def report_crashes(data_dir: Path, name: str) -> None:
    """Report a crash of this process in a file beside the lock, which it holds."""
    report_into(_report(data_dir, name))


def crash_of(data_dir: Path, name: str, last: Holder) -> str:
    """How the last holder of a lock, now dead, crashed; empty if it was killed, or left no report."""
    try:
        text = _report(data_dir, name).read_text(errors="replace").strip()
    except OSError:
        text = ""
    if not text and oom_kills() > last.oom_kills:
        text = "the kernel has killed a process for want of memory while it lived"
    return text


def lock_holder(data_dir: Path, name: str) -> Holder | None:
    """The holder of a lock, or None if it is free."""
    held, holder = _look(data_dir, name)
    return holder if held else None


def lock_holders(data_dir: Path) -> dict[str, Holder]:
    """All locks of a data folder that are held: name to holder."""
    found = {name: lock_holder(data_dir, name) for name in _names(data_dir)}
    return {name: holder for name, holder in found.items() if holder}


def dead_holders(data_dir: Path) -> dict[str, Holder]:
    """All free locks, by name, with their last holders: these workers are dead, even if they have a heartbeat."""
    found = {name: _look(data_dir, name) for name in _names(data_dir)}
    return {name: last for name, (held, last) in found.items() if not held and last and last.incarnation}


def last_holder(data_dir: Path, name: str) -> Holder | None:
    """The present or last holder of a lock; None if it never had one."""
    try:
        handle = os.open(lock_path(data_dir, name), os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        return _read(handle)
    finally:
        os.close(handle)


def drop_lock(data_dir: Path, name: str) -> None:
    """Remove the file of a free lock."""
    path = lock_path(data_dir, name)
    if path.exists() and (handle := try_lock(path)) is not None:
        _report(data_dir, name).unlink(missing_ok=True)
        remove_lock(path, handle)


def _names(data_dir: Path) -> list[str]:
    return sorted(path.stem for path in lock_path(data_dir, "").parent.glob("*.lock"))


def _look(data_dir: Path, name: str) -> tuple[bool, Holder | None]:
    """Whether a lock is held, and its present or last holder, read atomically."""
    try:
        handle = os.open(lock_path(data_dir, name), os.O_RDWR)
    except FileNotFoundError:
        return False, None
    try:
        return not try_flock(handle), _read(handle)
    finally:
        os.close(handle)


def _read(handle: int) -> Holder:
    pid, incarnation, ooms, *_ = [*os.read(handle, 256).decode(errors="replace").split(" "), "", ""]
    return Holder(_number(pid), incarnation, _number(ooms))


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0


def _report(data_dir: Path, name: str) -> Path:
    return lock_path(data_dir, name).with_suffix(".crash")
