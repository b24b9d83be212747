"""Continue's command line (`cn`), headless, with the configuration that its editor plugins have, too."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from tests.clients.scenarios import EDIT_FILE, QUESTION, SAID, USE_ONLY, Server, main, scenario

CN = Path(os.environ["NODE_PATH"]) / ".bin" / "cn"


def cn(server: Server, folder: str, prompt: str, *words: str, key: str = "") -> subprocess.CompletedProcess[str]:
    """Ask one thing."""
    config = Path(folder) / "config.yaml"
    config.write_text(f"""name: Headrace
version: 1.0.0
schema: v1
models:
  - name: Headrace
    provider: openai
    model: {server.model}
    apiBase: {server.base_url}
    apiKey: {key or server.key}
    roles: [chat, edit]
    capabilities: [tool_use]
    defaultCompletionOptions:
      maxTokens: 200
""")
    return subprocess.run(
        ["node", str(CN), "--config", str(config), *words, "-p", prompt],
        check=False,
        cwd=folder,
        env={**os.environ, "HOME": folder, "CONTINUE_TELEMETRY_ENABLED": "0", "CONTINUE_CLI_ENABLE_TELEMETRY": "0"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
    )


@scenario
def chat(server: Server) -> None:
    """A stream, with the tools that the agent always offers, none of which is called."""
    with tempfile.TemporaryDirectory() as folder:
        done = cn(server, folder, f"{QUESTION} Please do not use any tool.", "--readonly")
    assert done.returncode == 0, done.stderr
    server.check_text(done.stdout.strip())


@scenario
def tools(server: Server) -> None:
    """The agent's loop: it reads a file, and answers with what the model says then."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / EDIT_FILE).write_text("print('bye')\n")
        done = cn(server, folder, f"{QUESTION} {USE_ONLY} Read.", "--allow", "Read")
        logs = "".join(path.read_text() for path in Path(folder).glob(".continue/logs/*"))
    assert done.returncode == 0, done.stderr
    assert not server.certain or done.stdout.strip() == SAID, done.stdout
    assert "APIError" not in logs, logs[-2000:]


@scenario
def errors(server: Server) -> None:
    """A wrong key is told."""
    with tempfile.TemporaryDirectory() as folder:
        done = cn(server, folder, QUESTION, key="wrong")
    assert done.returncode, done.stdout
    assert "401" in done.stderr + done.stdout or "API key" in done.stderr + done.stdout, done.stderr + done.stdout


if __name__ == "__main__":
    main()
