"""docs/faults.md says what docs/faults.json holds, and what its rows are."""

from __future__ import annotations

import json

from tests.faults.matrix.report import JSON, PAGE, Outcome, page


def test_the_page_is_made_of_the_figures() -> None:
    assert PAGE.read_text() == page(json.loads(JSON.read_text()))


def test_rows_that_were_not_run_are_named() -> None:
    rows = {
        "a": Outcome("a", streams=3, jobs=2, next_token_p50_s=0.12, serves_after_s=1.0).counts(),
        "b": Outcome("b", skipped="no root").counts(),
    }
    text = page({"matrix": rows})
    assert "1 rows, 5 streams and jobs: 0 lost" in text
    assert "| a | 3 | 2 | 0 | 0 | 0 | 0 | 0 | 0 | 0.1 | - | 1.0 |" in text
    assert "- `b` was not run: no root" in text


def test_only_a_full_run_judges_times() -> None:
    slow = Outcome("a", late=1, serves_after_s=30.0)
    assert slow.problems(judge_times=False) == []
    assert len(slow.problems(judge_times=True)) == 2
    assert Outcome("a").problems(judge_times=False) == ["serves no new request"]
    assert Outcome("a", lost=2, serves_after_s=1.0).problems(judge_times=False) == ["2 lost"]
