"""How processes begin, and end when they can't."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cli.supervisor import process_table
from tests.stack import REPOSITORY

MODULES = [command[2] for command in process_table().values()] + ["workers.replica"]


@pytest.mark.parametrize("module", MODULES)
def test_a_setting_that_is_wrong_is_one_line_and_not_a_traceback(module: str, tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", module],
        cwd=REPOSITORY,
        env={**os.environ, "HEADRACE_DATA_DIR": str(tmp_path), "HEADRACE_LEASE_S": "soon"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    (line,) = ended.stderr.splitlines()
    assert line.startswith("HEADRACE_LEASE_S is 'soon'")
    assert (ended.returncode, ended.stdout) == (1, "")
