"""The wheel, built of this source and installed into an environment of its own, without a package index."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

from tests.stack import REPOSITORY

#: Where the other packages lie.
OTHERS = Path(str(metadata.distribution("celery").locate_file("")))
#: What is built from.
SOURCE = ("cli", "gateway", "schemas", "tasks", "web", "workers", "proto")
FILES = ("setup.cfg", "pyproject.toml", "README.md", "LICENSE", "Procfile", "MANIFEST.in")


def build(folder: Path) -> Path:
    """The wheel of this source, in a folder that is empty yet."""
    source = folder / "source"
    for name in SOURCE:
        shutil.copytree(REPOSITORY / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy(REPOSITORY / name, source)
    options = ("--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", str(folder))
    _run(sys.executable, "-P", "-m", "pip", "wheel", *options, str(source))
    shutil.rmtree(source)
    (wheel,) = folder.glob("*.whl")
    return wheel


def install(wheel: Path, folder: Path, *, without: tuple[str, ...] = ()) -> Path:
    """The `bin` folder of a new environment with the wheel. All else comes from this one, except some packages."""
    _run(sys.executable, "-P", "-m", "venv", "--without-pip", str(folder))
    python = folder / "bin" / "python"
    options = ("--quiet", "--no-deps", "--no-index")
    _run(sys.executable, "-P", "-m", "pip", "--python", str(python), "install", *options, str(wheel))
    ours = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
    if not without:
        (ours / "others.pth").write_text(str(OTHERS))
        return folder / "bin"
    others = folder / "others"
    others.mkdir()
    for path in OTHERS.iterdir():
        if path.name.split("-")[0].split(".")[0] not in (*without, "headrace"):
            (others / path.name).symlink_to(path)
    (ours / "others.pth").write_text(str(others))
    return folder / "bin"


def hostile_folder(folder: Path) -> Path:
    """A folder with a module for every name that anybody could import. What is imported writes its name to a file.

    Returns that file.
    """
    heard = folder.with_name(f"{folder.name}.imported")
    packages = {name for name in metadata.packages_distributions() if name.isidentifier()}
    for name in packages | set(sys.stdlib_module_names) | {*SOURCE, "sitecustomize", "usercustomize", "flowerconfig"}:
        body = f"with open({str(heard)!r}, 'a') as stream:\n    stream.write(__name__ + '\\n')\n"
        (folder / f"{name}.py").write_text(body)
    for name in ("celeryconfig.py", "gunicorn.conf.py"):
        shutil.copy(folder / "flowerconfig.py", folder / name)
    return heard


def _run(*command: str) -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=150, check=False, cwd="/")
    assert done.returncode == 0, done.stdout + done.stderr
