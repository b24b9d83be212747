"""Runs the clients' programs, each where its SDK is installed: `openai` and LangChain beside our own tests, the others
in `.clients`, which `make deps-clients` makes.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

from tests.clients import install
from tests.clients.scenarios import Server
from tests.stack import REPOSITORY

FOLDER = Path(__file__).parent
#: How long all scenarios of a client may take together.
PROGRAM_S = 240


@dataclass(frozen=True)
class Program:
    """One client. `place` is the folder of `.clients` that it lives in; empty: our own environment."""

    name: str
    place: str = ""
    paths: Sequence[str] = ("local", "remote")

    def __str__(self) -> str:
        return f"{self.name}@{self.place}" if self.place else self.name

    @property
    def file(self) -> Path:
        """Its text."""
        (found,) = FOLDER.glob(f"{self.name}.*")
        return found

    def scenarios(self) -> list[str]:
        """Their names, which are read from the text: what it imports is elsewhere."""
        if self.file.suffix != ".py":
            return [line.split('"')[1] for line in self.file.read_text().splitlines() if line.startswith("scenario(")]
        functions = (ast.FunctionDef, ast.AsyncFunctionDef)
        tree = ast.parse(self.file.read_text())
        return [
            node.name
            for node in tree.body
            if isinstance(node, functions) and any(ast.unparse(mark) == "scenario" for mark in node.decorator_list)
        ]

    def run(self, server: Server, scenarios: Sequence[str] = (), timeout_s: float = PROGRAM_S) -> Mapping[str, str]:
        """What went wrong in each scenario; empty if nothing did."""
        command = [*self._command(), json.dumps(asdict(server)), *scenarios]
        done = subprocess.run(
            command, check=False, cwd=REPOSITORY, env=environ(), capture_output=True, text=True, timeout=timeout_s
        )
        if done.returncode:
            raise AssertionError(
                f"{self.name} ended with {done.returncode}: {done.stdout[-2000:]}{done.stderr[-4000:]}"
            )
        outcomes: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
        return {name: text and f"{text}\n{done.stderr[-2000:]}" for name, text in outcomes.items()}

    def _command(self) -> list[str]:
        if self.place and (lacks := install.lacks(self.place)):
            pytest.fail(f"{lacks} Run: make deps-clients", False)
        if self.file.suffix != ".py":
            return ["node", str(self.file)]
        python = str(install.python(self.place)) if self.place not in ("", "node") else sys.executable
        return [python, "-m", f"tests.clients.{self.name}"]


def environ() -> dict[str, str]:
    """Nothing that a client would send home, and none of the settings that a developer may have for it."""
    kept = {
        name: text for name, text in os.environ.items() if not name.startswith(("OPENAI_", "LANGCHAIN_", "LITELLM"))
    }
    quiet = {
        "OPENAI_AGENTS_DISABLE_TRACING": "1",
        "LANGSMITH_TRACING": "false",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "ANONYMIZED_TELEMETRY": "false",
        "NODE_PATH": str(install.FOLDER / "node" / "node_modules"),
        "NO_COLOR": "1",
    }
    return {**kept, **quiet}
