"""aider's command line, as it is started with a server of OpenAI's protocol."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.clients.scenarios import EDIT_FILE, EDIT_QUESTION, EDITED, QUESTION, SAID, Server, main, scenario

#: It asks nothing, looks for no news, keeps no history.
OPTIONS = (
    "--yes-always",
    "--no-git",
    "--no-check-update",
    "--no-show-release-notes",
    "--analytics-disable",
    "--no-show-model-warnings",
    "--no-pretty",
    "--no-fancy-input",
    "--no-suggest-shell-commands",
    "--map-tokens=0",
    "--no-detect-urls",
)


def aider(server: Server, folder: str, message: str, *words: str, key: str = "") -> subprocess.CompletedProcess[str]:
    """Say one thing to it."""
    environ = {
        **os.environ,
        "HOME": folder,
        "OPENAI_API_BASE": server.base_url,
        "OPENAI_API_KEY": key or server.key,
        "PYTHONWARNINGS": "ignore",
    }
    return subprocess.run(
        [sys.executable, "-m", "aider", "--model", f"openai/{server.model}", *OPTIONS, *words, "--message", message],
        check=False,
        cwd=folder,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=150,
    )


@scenario
def edit(server: Server) -> None:
    """A stream that edits a file; what a small model says may be no edit."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / EDIT_FILE
        file.write_text("print('bye')\n")
        settings = Path(folder) / ".aider.model.settings.yml"
        settings.write_text(f"- name: openai/{server.model}\n  extra_params:\n    max_tokens: 64\n")
        done = aider(server, folder, EDIT_QUESTION, "--edit-format", "whole", EDIT_FILE)
        assert done.returncode == 0, done.stdout
        assert "litellm." not in done.stdout, done.stdout
        assert "Tokens:" in done.stdout or "token limit" in done.stdout, done.stdout
        assert not server.certain or file.read_text() == EDITED, done.stdout


@scenario
def ask(server: Server) -> None:
    """An answer that is not streamed."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder) / ".aider.model.settings.yml"
        settings.write_text(f"- name: openai/{server.model}\n  extra_params:\n    max_tokens: 24\n")
        done = aider(server, folder, QUESTION, "--edit-format", "ask", "--no-stream")
    assert done.returncode == 0, done.stdout
    assert not server.certain or SAID in done.stdout, done.stdout
    assert "Tokens:" in done.stdout, done.stdout


@scenario
def errors(server: Server) -> None:
    """A wrong key is told as what it is, and not tried again."""
    with tempfile.TemporaryDirectory() as folder:
        said = aider(server, folder, QUESTION, "--edit-format", "ask", key="wrong").stdout
    assert "AuthenticationError" in said, said


if __name__ == "__main__":
    main()
