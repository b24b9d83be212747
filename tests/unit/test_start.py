"""How processes begin, and end when they can't."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cli.supervisor import process_table
from gateway.errors import InvalidSetting
from gateway.settings import Settings
from gateway.tracing import start
from gateway.tracing.start import require
from tests.stack import REPOSITORY

MODULES = [command[2] for command in process_table().values()] + ["workers.replica"]


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("module", MODULES)
def test_a_setting_that_is_wrong_is_one_line_of_the_log(module: str, form: str, tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", module],
        cwd=REPOSITORY,
        env={**os.environ, "HEADRACE_DATA_DIR": str(tmp_path), "HEADRACE_LEASE_S": "soon", "HEADRACE_LOG_FORMAT": form},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    (line,) = ended.stderr.splitlines()
    said = json.loads(line)["message"] if form == "json" else line.partition(": ")[2]
    assert said.startswith("HEADRACE_LEASE_S is 'soon'")
    assert (ended.returncode, ended.stdout) == (1, "")


def test_traces_that_can_not_be_exported_are_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    require(Settings(otel=True))
    monkeypatch.setattr(start, "EXPORTER", "a-package-that-is-not-there")
    require(Settings(otel=False))
    with pytest.raises(InvalidSetting, match=r"pip install 'headrace\[otel\]'"):
        require(Settings(otel=True))
