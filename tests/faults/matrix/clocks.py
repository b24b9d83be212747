"""Faults of time: the wall clock of one process jumps, by libfaketime."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

from tests.faults.matrix.mix import Load
from tests.faults.matrix.rig import World, as_root
from tests.faults.matrix.row import Fault

_PLACES = ("/usr/lib/x86_64-linux-gnu/faketime", "/usr/lib/aarch64-linux-gnu/faketime", "/usr/lib/faketime")


@cache
def _library() -> Path | None:
    """libfaketime, installed if it can be."""
    if not _found() and as_root() and shutil.which("apt-get"):
        subprocess.run(["apt-get", "install", "-y", "-qq", "faketime"], check=False, capture_output=True)
    return _found()


def _found() -> Path | None:
    paths = (Path(place) / "libfaketime.so.1" for place in _PLACES)
    return next((path for path in paths if path.exists()), None)


def missing() -> str:
    """Why clocks can't jump here; empty if they can."""
    return "" if _library() else "libfaketime is not installed (Debian's package faketime)"


def clock_of(*names: str) -> Callable[[Path], Mapping[str, list[str]]]:
    """These processes read their wall clock through a file."""

    def wrap(folder: Path) -> Mapping[str, list[str]]:
        (folder / "faketime").write_text("+0")
        variables = {
            "LD_PRELOAD": str(_library()),
            "FAKETIME_TIMESTAMP_FILE": str(folder / "faketime"),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }
        return {name: ["env", *(f"{key}={value}" for key, value in variables.items())] for name in names}

    return wrap


def jumps(by: str) -> Fault:
    """The clock is set, and stays so."""

    def fault(world: World, _: Load) -> Sequence[str] | None:
        (world.stack.folder / "faketime").write_text(by)
        return None

    return fault
