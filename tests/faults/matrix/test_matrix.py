"""Every fault, each on a live system under mixed load; the same invariants after each.

A few rows here; all of them with HEADRACE_FAULTS=full (`make faults`), which writes docs/faults.json and
docs/faults.md.
"""

from __future__ import annotations

import pytest

from tests.faults.conftest import FULL
from tests.faults.matrix.conftest import Rigs
from tests.faults.matrix.report import Outcome, Report
from tests.faults.matrix.row import Row
from tests.faults.matrix.rows import ROWS, SHORT
from tests.faults.matrix.run import run

#: Our own connections to Redis break too, and may not be closed as properly as we want it elsewhere.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.mark.timeout(400)
@pytest.mark.parametrize("row", [row for row in ROWS if FULL or row.name in SHORT], ids=lambda row: row.name)
def test_row(rigs: Rigs, report: Report, row: Row) -> None:
    if reason := row.skip():
        report.note(Outcome(row.name, skipped=reason))
        pytest.skip(reason)
    world = rigs.get(row.design)
    try:
        outcome = run(world, row, full=FULL)
        report.note(outcome)
        problems = outcome.problems(judge_times=FULL)
        assert not problems, "\n".join([world.stack.logs(), *problems, *outcome.notes[:20]])
    except BaseException:
        rigs.close()
        raise
    if row.spoils:
        rigs.close()
