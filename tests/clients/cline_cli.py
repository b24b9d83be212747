"""Cline's command line, headless, with the provider that its editor plugin has, too."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from tests.clients.scenarios import EDIT_FILE, QUESTION, SAID, USE_ONLY, Server, main, scenario

CLINE = Path(os.environ["NODE_PATH"]) / "@cline" / "cli-linux-x64" / "bin" / "cline"
PROVIDER = "openai-compatible"


def run(folder: str, *words: str) -> subprocess.CompletedProcess[str]:
    """With a home and data of its own."""
    return subprocess.run(
        [str(CLINE), *words, "--data-dir", f"{folder}/data"],
        check=False,
        cwd=folder,
        env={**os.environ, "HOME": folder, "CLINE_TELEMETRY_DISABLED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
    )


def ask(server: Server, folder: str, prompt: str, key: str = "") -> list[Any]:
    """What it reports, the result last."""
    words = ["-p", PROVIDER, "-k", key or server.key, "-m", server.model, "-b", server.base_url]
    done = run(folder, "auth", *words)
    assert done.returncode == 0, done.stdout
    said = run(folder, "-P", PROVIDER, "-m", server.model, "--retries", "1", "--timeout", "60", "--json", prompt).stdout
    reports = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    assert reports, said
    return reports


@scenario
def chat(server: Server) -> None:
    """A stream, with the tools that the agent always offers, none of which is called."""
    with tempfile.TemporaryDirectory() as folder:
        result = ask(server, folder, f"{QUESTION} Please do not use any tool.")[-1]
    assert result["finishReason"] == "completed", result
    server.check_text(result["text"])
    assert result["usage"]["outputTokens"] > 0


@scenario
def tools(server: Server) -> None:
    """The agent's loop: it reads a file, and answers with what the model says then."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / EDIT_FILE).write_text("print('bye')\n")
        reports = ask(server, folder, f"{QUESTION} {USE_ONLY} read_files.")
    if server.certain:
        assert "read_files" in json.dumps(reports), reports
        assert reports[-1]["text"] == SAID, reports[-1]
    assert reports[-1]["finishReason"] == "completed", reports[-1]


@scenario
def errors(server: Server) -> None:
    """A wrong key is told."""
    with tempfile.TemporaryDirectory() as folder:
        reports = ask(server, folder, QUESTION, key="wrong")
    assert "API key" in json.dumps(reports), reports


if __name__ == "__main__":
    main()
