"""The memory of this machine, or what its control groups (a container, a systemd unit) let this process have of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil

_ROOT, _OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
#: By version of control groups: the files of a group's limit, and of what it takes.
_FILES = {2: ("memory.max", "memory.current"), 1: ("memory.limit_in_bytes", "memory.usage_in_bytes")}


class Memory(NamedTuple):
    """In bytes."""

    total: int
    free: int


def machine_memory() -> Memory:
    """What there is, and is free."""
    machine = psutil.virtual_memory()
    total, free = int(machine.total), int(machine.available)
    for limit, used in _limits(_ROOT, _OWN.read_text() if _OWN.exists() else ""):
        total, free = min(total, limit), min(free, max(0, limit - used))
    return Memory(total, free)


def _limits(root: Path, own: str) -> Iterator[tuple[int, int]]:
    """Limit and use of each group that this process is in, and of those above; not of those without a limit."""
    for line in own.splitlines() or ["0::/"]:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top, names = (root / "memory", _FILES[1]) if controllers else (root, _FILES[2])
        group = top / path.lstrip("/")
        for folder in (group, *(above for above in group.parents if above.is_relative_to(top))):
            limit, used = (_number(folder / name) for name in names)
            if limit:
                yield limit, used


def _number(path: Path) -> int:
    """A number in a file of the kernel; 0 if there is none."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return 0
