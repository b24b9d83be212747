"""Installs what the tests of clients need and ours do not: `python -m tests.clients.install` (`make deps-clients`).

Each place in `.clients` has packages that agree with one another, in the versions that a file beside this one names. It
is made anew when that file has changed.
"""

from __future__ import annotations

import functools
import hashlib
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
FOLDER = REPOSITORY / ".clients"
#: By place: the file that says what is in it.
SOURCES = {
    name: Path(__file__).with_name(file)
    for name, file in {
        "sdks": "sdks.txt",
        "sdks-2": "sdks-2.txt",
        "aider": "aider.txt",
        "node": "package.json",
        "openai-python": "openai-python.txt",
    }.items()
}
#: How long one command may take.
COMMAND_S = 900


def python(place: str) -> Path:
    """The interpreter of a place."""
    return FOLDER / place / "bin" / "python"


@functools.cache
def lacks(place: str) -> str:
    """What is missing; empty if the place is as its file says."""
    stamp = FOLDER / place / ".installed"
    if stamp.exists() and stamp.read_text() == _digest(place):
        return ""
    return f"The clients of tests/clients/{SOURCES[place].name} are not installed in .clients/{place}."


def install(place: str) -> None:
    """Make a place, if it is not there. Raises: SystemExit, with what went wrong."""
    if not lacks(place):
        return
    folder = FOLDER / place
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    _MAKERS[place](folder)
    (folder / ".installed").write_text(_digest(place))
    lacks.cache_clear()


def _packages(folder: Path) -> None:
    """A virtual environment."""
    _run(sys.executable, "-m", "venv", str(folder))
    _pip(folder, "install", "--upgrade", "pip>=26")
    _pip(folder, "install", "-r", str(SOURCES[folder.name]))


def _sources(folder: Path) -> None:
    """The tests of OpenAI's SDK, which its source distribution has, and an environment that runs them."""
    _packages(folder)
    _pip(folder, "download", "--no-deps", "--no-binary", "openai", "--dest", str(folder), _version(folder))
    (archive,) = folder.glob("openai-*.tar.gz")
    with tarfile.open(archive) as found:
        found.extractall(folder, filter="data")
    archive.with_suffix("").with_suffix("").rename(folder / "source")
    archive.unlink()


def _version(folder: Path) -> str:
    code = "import openai; print(f'openai=={openai.__version__}')"
    done = subprocess.run([python(folder.name), "-c", code], check=True, capture_output=True, text=True, timeout=60)
    return done.stdout.strip()


def _node(folder: Path) -> None:
    """Packages of npm, which Debian has."""
    if not shutil.which("npm"):
        _run("apt-get", "-qq", "update")
        _run("apt-get", "-qq", "install", "--yes", "--no-install-recommends", "nodejs", "npm")
    shutil.copy(SOURCES["node"], folder)
    _run("npm", "install", "--prefix", str(folder), "--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error")


_MAKERS: dict[str, Callable[[Path], None]] = {
    "sdks": _packages,
    "sdks-2": _packages,
    "aider": _packages,
    "node": _node,
    "openai-python": _sources,
}


def _pip(folder: Path, command: str, *words: str) -> None:
    _run(str(python(folder.name)), "-m", "pip", command, "--quiet", "--disable-pip-version-check", *words)


def _run(*command: str) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=COMMAND_S)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} says: {done.stderr[-4000:]}")


def _digest(place: str) -> str:
    return hashlib.sha256(SOURCES[place].read_bytes()).hexdigest()


if __name__ == "__main__":
    for chosen in sys.argv[1:] or SOURCES:
        install(chosen)
