"""One system at a time for the rows, and the report."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.conftest import FULL
from tests.faults.matrix.designs import DESIGNS
from tests.faults.matrix.mix import Load
from tests.faults.matrix.report import Report
from tests.faults.matrix.rig import World, running
from tests.faults.matrix.rows import ROWS

#: A first request of each kind may take so long.
_WARM_S = 60.0


class Rigs:
    """Starts systems. The last one stays for the next row if it has the same design, and nothing is wrong with it."""

    def __init__(self) -> None:
        self._open = contextlib.ExitStack()
        self._name = ""
        self._world: World | None = None

    def get(self, name: str) -> World:
        """A running system of that design."""
        if self._world is None or self._name != name:
            self.close()
            folder = self._open.enter_context(tempfile.TemporaryDirectory(prefix="hf-", ignore_cleanup_errors=True))
            world = self._open.enter_context(running(Path(folder), DESIGNS[name], full=FULL))
            _warm_up(world)
            self._name, self._world = name, world
        return self._world

    def close(self) -> None:
        """End it."""
        self._world = None
        self._open.close()


def _warm_up(world: World) -> None:
    """Every kind of request once: pools are filled, and the vectors of a quiet system are known."""
    load = Load.with_key(world)
    load.mixed(fault_s=-5, full=FULL)
    load.join(_WARM_S)
    left = [(type(c).__name__, c.error, c.troubles) for c in load.clients if not c.ended or c.error]
    assert not left, (left, world.stack.logs())
    world.settle()


@pytest.fixture(scope="session")
def rigs() -> Iterator[Rigs]:
    rigs = Rigs()
    yield rigs
    rigs.close()


@pytest.fixture(scope="session")
def report() -> Iterator[Report]:
    """Printed at the end; a full run puts it into the docs."""
    report = Report()
    yield report
    print(f"\n{report.table()}")
    if FULL:
        report.write([row.name for row in ROWS])
