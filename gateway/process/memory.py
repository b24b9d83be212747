"""The memory of this machine, or what its control groups (a container, a systemd unit) let this process have of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil

_ROOT, _OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
#: By version of control groups: the files of a group's limit and of what it takes, and the line of `memory.stat` that
#: says how much of that is copies of files that the kernel gives back at once. Kubernetes subtracts the same.
_FILES = {
    2: ("memory.max", "memory.current", "inactive_file"),
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


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
            limit_file, used_file, cached = names
            if limit := _number(folder / limit_file):
                yield limit, max(0, _number(folder / used_file) - _stat(folder, cached))


def _stat(folder: Path, name: str) -> int:
    try:
        lines = (folder / "memory.stat").read_text().splitlines()
        return next((int(value) for key, value in map(str.split, lines) if key == name), 0)
    except (OSError, ValueError):
        return 0


def _number(path: Path) -> int:
    """A number in a file of the kernel; 0 if there is none."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return 0
