"""Many `headrace` commands in one process: `python -m tests.commands`, with arguments, variables and input as JSON
on stdin. Each start costs a second or more.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from tests.stack import PATIENCE_S, REPOSITORY


@dataclass(frozen=True)
class Command:
    """One command."""

    arguments: Sequence[str]
    environ: Mapping[str, str] = field(default_factory=dict)
    stdin: str = ""


@dataclass(frozen=True)
class Said:
    """How it ended."""

    status: int
    stdout: str
    stderr: str


def run(commands: Sequence[Command], environ: Mapping[str, str]) -> list[Said]:
    """Run commands one after the other, each with these variables and its own."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.commands"],
        cwd=REPOSITORY,
        env={**environ, "PYTHONPATH": str(REPOSITORY)},
        input=json.dumps([asdict(command) for command in commands]),
        capture_output=True,
        text=True,
        timeout=4 * PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [Said(**one) for one in json.loads(done.stdout)]


def main() -> None:
    """Run what is asked for."""
    from click.testing import CliRunner

    from cli.main import main as headrace

    found, runner = [], CliRunner()
    for one in json.load(sys.stdin):
        result = runner.invoke(headrace, one["arguments"], env={**os.environ, **one["environ"]}, input=one["stdin"])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        found.append(Said(result.exit_code, result.stdout, result.stderr))
    json.dump([asdict(one) for one in found], sys.stdout)


if __name__ == "__main__":
    main()
