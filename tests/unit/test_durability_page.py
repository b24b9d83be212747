"""docs/durability.md has a row for each rule, with files and tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "durability.md").read_text()
#: Rules of the job protocol.
RULES = 32
ROWS = [line.strip("| ").split(" | ") for line in PAGE.splitlines() if re.match(r"\| \d+ \|", line)]


def test_each_rule_has_a_row() -> None:
    assert [int(row[0]) for row in ROWS] == list(range(1, RULES + 1))


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_each_row_names_files_and_tests_that_exist(row: list[str]) -> None:
    files, tests = (re.findall(r"`([^`]+)`", cell) for cell in row[2:4])
    assert files
    assert tests
    assert [name for name in files if not (ROOT / name).is_file()] == []
    for test in tests:
        path, _, name = test.partition("::")
        tree = ast.parse((ROOT / path).read_text())
        assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}, test
