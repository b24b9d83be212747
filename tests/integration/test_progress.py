"""What takes long shows on a terminal how far it is, and only there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stack import KEY, PATIENCE_S, REPOSITORY, Stack, running
from tests.terminals import on_a_terminal, read_until

CATALOG = '[models.slow]\ncapabilities = ["chat"]\nengine = "fake"\n'


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("p"), {"fake": {}}, catalog=CATALOG) as stack:
        yield stack


def environ(stack: Stack) -> dict[str, str]:
    return {**os.environ, **stack.settings.environ(), "HEADRACE_API_KEY": KEY}


@pytest.mark.parametrize(
    ("words", "shown", "at_last"),
    [
        (("deploy", "slow"), "[########################] 100% model_initialization", "completed"),
        (("deploy", "slow", "--json"), "[########################] 100% model_initialization", '"status": "completed"'),
        (("backup", "{folder}/one"), "  values", "of installation"),
        (("doctor",), "replicas         ...", "stored data"),
        (("doctor", "--json"), "replicas         ...", '"check": "stored data"'),
    ],
)
def test_a_terminal_shows_how_far_it_is(
    stack: Stack, tmp_path: Path, words: tuple[str, ...], shown: str, at_last: str
) -> None:
    words = tuple(word.format(folder=tmp_path) for word in words)
    with on_a_terminal(*words, environ=environ(stack)) as (process, terminal):
        said = read_until(terminal, shown)
        if at_last not in said:
            read_until(terminal, at_last)
        process.wait(PATIENCE_S)


def test_elsewhere_there_are_no_bars(stack: Stack, tmp_path: Path) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "cli.main", *words]
        return subprocess.run(
            command, env=environ(stack), cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False
        )

    deployed = run("deploy", "slow", "--json")
    assert (deployed.returncode, "[#" in deployed.stderr) == (0, False)
    assert json.loads(deployed.stdout)["status"] == "completed"
    stages = run("deploy", "slow")
    assert "[#" not in stages.stdout
    assert "  model_initialization: completed\n" in stages.stdout
    for words in (("backup", str(tmp_path / "two")), ("doctor",)):
        said = run(*words)
        assert said.stderr == ""
        assert "\r" not in said.stdout
