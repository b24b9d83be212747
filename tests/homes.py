"""The `headrace` command over a data folder of its own, as a user runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from tests.stack import PATIENCE_S, REPOSITORY, free_port


@dataclass
class Home:
    """A data folder with ports of its own."""

    folder: Path
    environ: dict[str, str]
    #: What runs in the background, or ran.
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)
    #: The command that leads into another network; empty: this one.
    inside: tuple[str, ...] = ()

    def command(
        self, *args: str, stdin: str | None = None, timeout_s: float = PATIENCE_S, **environ: str
    ) -> subprocess.CompletedProcess[str]:
        """Run `headrace ARGS` to its end."""
        return subprocess.run(
            [*self.inside, sys.executable, "-m", "cli.main", *args],
            cwd=REPOSITORY,
            env={**self.environ, **environ},
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def start(self, *args: str) -> subprocess.Popen[bytes]:
        """Run `headrace ARGS` in the background; what it says goes to `said`."""
        with (self.folder / "said").open("wb") as output:
            process = subprocess.Popen(
                [*self.inside, sys.executable, "-m", "cli.main", *args],
                cwd=REPOSITORY,
                env=self.environ,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.started.append(process)
        return process

    @property
    def data(self) -> str:
        """The data folder itself."""
        return self.environ["HEADRACE_DATA_DIR"]

    @property
    def said(self) -> str:
        """What the background command has said so far."""
        return (self.folder / "said").read_text()


def new_home(folder: Path) -> Home:
    """A data folder below `folder`, with a fake model and free ports."""
    ports = {f"HEADRACE_{name}_PORT": str(free_port()) for name in ("HTTP", "GRPC", "FLOWER")}
    settings = {"HEADRACE_DATA_DIR": str(folder / "var"), "HEADRACE_DEMO_MODEL": "fake", **ports}
    fake = {"capabilities": ["chat"], "engine": "fake", "context_length": 4096, "max_tokens": 4096}
    # Slower than the pause between two comments of a silent stream.
    settings["HEADRACE_MODELS_JSON"] = json.dumps({"water": {**fake, "options": {"step_s": 3}}})
    # Nobody is asked with this key: it only makes the provider one that could be.
    keys = {"OPENAI_API_KEY": "sk-none", "ANTHROPIC_API_KEY": ""}
    return Home(folder, {**os.environ, **settings, "PYTHONUNBUFFERED": "1", **keys})
