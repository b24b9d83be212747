"""Downloads from the hub server of the tests: in this process, or in one that can be killed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gateway.backoff import Backoff
from schemas.sources import HubRef
from tests.hub_server import Fault, HubServer, Repository
from tests.model_files import write_safetensors
from tests.stack import REPOSITORY
from workers.sources.base import SourceFailed, never
from workers.sources.hub import Hub
from workers.sources.retry import Limits

WEIGHTS = "model.safetensors"
#: Goes before other faults: the first request for the weights is a look at their header.
HEADER = Fault()
#: Fast enough for tests; three tries.
LIMITS = Limits(
    silence_timeout_s=1.0,
    slow_window_s=0.5,
    max_retries=2,
    progress_bytes=100_000,
    backoff=Backoff(first_s=0.01, last_s=0.05),
)


@dataclass
class Download:
    """One source below a folder, and what it said."""

    models: Path
    ref: HubRef
    limits: Limits = LIMITS
    progress: list[tuple[int, int]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.source = Hub(self.ref, self.models, limits=self.limits)

    def fetch(self, is_cancelled: Callable[[], bool] = never) -> Path:
        return self.source.fetch(
            on_progress=lambda *n: self.progress.append(n), is_cancelled=is_cancelled, log=self.lines.append
        )

    def failure(self, is_cancelled: Callable[[], bool] = never) -> SourceFailed:
        with pytest.raises(SourceFailed) as caught:
            self.fetch(is_cancelled)
        return caught.value

    @property
    def left(self) -> list[str]:
        """All files below the folder."""
        return sorted(str(path.relative_to(self.models)) for path in self.models.rglob("*") if path.is_file())

    def part(self, name: str) -> Path:
        """Where a file is gathered while it is not whole."""
        return self.models / ".partial" / f"org--name@{self.ref.revision}" / "files" / f"{name}.part"

    def require_whole(self, repository: Repository, path: Path) -> None:
        """Every file is there as the repository has it, and nothing that is not whole."""
        assert self.source.present()
        files = [file for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file()]
        assert files
        for file in files:
            assert file.read_bytes() == repository.files[file.name]
        assert not (self.models / ".partial").exists()


def publish(hub: HubServer, folder: Path, *, size: int = 512, **about: object) -> tuple[Repository, HubRef]:
    """A repository with weights of `6 * size * size` bytes."""
    repository = hub.add("org/name", write_safetensors(folder / "published", size=size), **about)
    return repository, HubRef("org", "name", repository.revision)


FETCH = """
import resource, sys
from pathlib import Path
from schemas.sources import HubRef
from workers.sources.base import SourceFailed, never, no_progress
from workers.sources.hub import Hub
models, revision, most = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
if most:
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
try:
    Hub(HubRef("org", "name", revision), models).fetch(on_progress=no_progress, is_cancelled=never, log=print)
except SourceFailed as error:
    print(error.reason, error.message)
"""


def start(models: Path, ref: HubRef, most_bytes: int = 0) -> subprocess.Popen[str]:
    """A fetch in a process of its own, which may write files of so many bytes."""
    command = [sys.executable, "-c", FETCH, str(models), ref.revision, str(most_bytes)]
    return subprocess.Popen(command, cwd=REPOSITORY, env={**os.environ}, stdout=subprocess.PIPE, text=True)
