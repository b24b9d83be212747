"""The wheel, built of this source and installed into an environment of its own, without a package index."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from tests.stack import REPOSITORY

#: Where the other packages lie.
OTHERS = Path(str(metadata.distribution("celery").locate_file("")))
#: What is built from.
SOURCE = ("cli", "gateway", "schemas", "tasks", "web", "workers", "proto", "docs")
FILES = ("setup.cfg", "pyproject.toml", "README.md", "LICENSE", "Procfile", "MANIFEST.in")


def build(folder: Path) -> Path:
    """The wheel of this source, in a folder that is empty yet."""
    source = folder / "source"
    for name in SOURCE:
        shutil.copytree(REPOSITORY / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "node_modules"))
    for name in FILES:
        shutil.copy(REPOSITORY / name, source)
    options = ("--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", str(folder))
    _run(sys.executable, "-P", "-m", "pip", "wheel", *options, str(source))
    shutil.rmtree(source)
    (wheel,) = folder.glob("*.whl")
    return wheel


def environment(
    folder: Path, *, python: Path | str = sys.executable, others: Path = OTHERS, without: tuple[str, ...] = ()
) -> None:
    """A new environment of an interpreter with the packages that lie in `others`, except some, and Headrace."""
    _run(str(python), "-P", "-m", "venv", "--without-pip", str(folder))
    seen = folder / "others"
    seen.mkdir()
    for path in others.iterdir():
        if path.name.split("-")[0].split(".")[0] not in (*without, "headrace"):
            (seen / path.name).symlink_to(path)
    (ours,) = folder.glob("lib/python*/site-packages")
    (ours / "others.pth").write_text(str(seen))


def install(wheel: Path, folder: Path) -> None:
    """Install the wheel into an environment."""
    _pip(folder, "install", "--no-deps", "--no-index", str(wheel))


def uninstall(folder: Path) -> None:
    """Take it out again."""
    _pip(folder, "uninstall", "--yes", "headrace")


def files(*folders: Path) -> set[Path]:
    """All files below these folders, without what Python has compiled."""
    every = (path for folder in folders for path in folder.rglob("*") if not path.is_dir() or path.is_symlink())
    return {path for path in every if "__pycache__" not in path.parts}


def hostile_folder(folder: Path) -> Path:
    """Fill a folder with a module for every name that anybody could import, and a package for each of ours. What is
    imported writes its name to a file, and ends its process.

    Returns that file.
    """
    heard = folder.with_name(f"{folder.name}.imported")
    writes = f"with open({str(heard)!r}, 'a') as stream:\n    stream.write(__name__ + '\\n')\nraise SystemExit(1)\n"
    packages = {name for name in metadata.packages_distributions() if name.isidentifier()}
    for name in packages | set(sys.stdlib_module_names) | {"sitecustomize", "usercustomize", "flowerconfig"}:
        (folder / f"{name}.py").write_text(writes)
    for name in SOURCE:
        (folder / f"{name}.py").unlink(missing_ok=True)
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(writes)
    for name in ("celeryconfig.py", "gunicorn.conf.py"):
        shutil.copy(folder / "flowerconfig.py", folder / name)
    return heard


def _pip(folder: Path, *command: str) -> None:
    """pip of this environment works on that one, which has none."""
    python = str(folder / "bin" / "python")
    _run(sys.executable, "-P", "-m", "pip", "--python", python, "--quiet", *command)


def _run(*command: str) -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=150, check=False, cwd="/")
    assert done.returncode == 0, done.stdout + done.stderr
