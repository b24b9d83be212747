"""Engines in environments of their own, for tests: they lie in `.engines`, made by the product's own means.

A test that needs one makes it; `python -m tests.apart` (`make deps-engines`) makes all.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from gateway.process.file_locks import locked
from tests.stack import REPOSITORY
from tests.wheel import OTHERS
from workers.host.venvs import RECIPES, Environment

FOLDER = REPOSITORY / ".engines"
#: Of a tiny Llama whose heads vLLM's attention knows on a CPU, and which two processes can share.
VLLM_SHAPE: dict[str, Any] = {"hidden_size": 512, "num_attention_heads": 8, "num_key_value_heads": 4}


def environment(engine: str) -> Environment:
    """That of an engine. It is made if it is not there, which takes minutes. Raises: HeadraceError."""
    place = Environment.of(engine, FOLDER)
    FOLDER.mkdir(exist_ok=True)
    with locked(FOLDER / f"{engine}.lock"):
        if not place.installed():
            place.install("cpu", lambda what: print(f"{engine}: {what}", flush=True))
    return place


def lend(engine: str, data_dir: Path) -> None:
    """Let a data folder have it, too."""
    place = Environment.of(engine, data_dir)
    place.folder.parent.mkdir(parents=True, exist_ok=True)
    place.folder.symlink_to(environment(engine).folder)


def command(engine: str, module: str, *args: str) -> list[str]:
    """Runs a module under the interpreter of an engine: its own packages first, then those of this environment.

    The processes that it starts find ours first.
    """
    code = (
        f"import os, runpy, sys; ours, others = {str(REPOSITORY)!r}, {str(OTHERS)!r}; "
        "sys.path[:] = [ours, *sys.path, others]; os.environ['PYTHONPATH'] = os.pathsep.join((ours, others)); "
        "sys.argv = sys.argv[1:]; runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)"
    )
    return [str(environment(engine).python), "-P", "-c", code, module, *args]


def run_pytest(engine: str, *args: str) -> subprocess.CompletedProcess[str]:
    """Run tests under the interpreter of an engine."""
    told = command(engine, "pytest", *args)
    return subprocess.run(
        told, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )


if __name__ == "__main__":
    for name in RECIPES:
        environment(name)
