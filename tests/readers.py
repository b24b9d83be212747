"""A reader of the documentation, who runs a page's commands as they stand there.

Only addresses are another: ports that are free here, and the hub of the tests in place of the real one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.homes import Home, new_home
from tests.hub_server import HubServer
from tests.named_models import save_gguf
from tests.pages import blocks
from tests.stack import eventually

#: Longest time for all commands of a page, and for a start.
PAGE_S = 600


@contextmanager
def pages_hub(folder: Path) -> Iterator[HubServer]:
    """A hub with the repository that the pages name."""
    save_gguf(folder / "Qwen3-0.6B-Q8_0.gguf")
    hub = HubServer()
    hub.add("Qwen/Qwen3-0.6B-GGUF", folder)
    with hub.running():
        yield hub


@contextmanager
def reader(folder: Path, hub: HubServer) -> Iterator[Home]:
    """Somebody with an installation of their own, in which nothing runs yet; what runs at the end is ended."""
    home = new_home(folder)
    (folder / "cwd").mkdir()
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    home.environ |= {"PATH": path, "HF_ENDPOINT": hub.url, "HOME": str(folder), "NO_PROXY": "*"}
    home.environ |= {"HEADRACE_CONFIG": str(folder / "headrace.toml"), "HEADRACE_NODE": "worker-01"}
    home.environ |= {"HEADRACE_DEMO_MODEL": ""}
    try:
        yield home
    finally:
        home.command("down", timeout_s=PAGE_S)


@contextmanager
def machine(home: Home, name: str) -> Iterator[subprocess.Popen[bytes]]:
    """The workers of another machine, by the same Redis."""
    folder = home.folder / name
    folder.mkdir()
    environ = {"HEADRACE_REDIS_URL": f"unix://{home.data}/redis.sock", "HEADRACE_DATA_DIR": str(folder / "var")}
    node = Home(folder, {**home.environ, **environ})
    process = node.start("worker", "--node", name)
    try:
        eventually(lambda: "ready." in node.said, f"{name} has joined")
        yield process
    finally:
        process.terminate()
        process.wait(60)
        node.command("down", timeout_s=PAGE_S)


def follow(home: Home, page: str) -> str:
    """Run a page's commands, in one shell, and return what they print. Fails with the line of the block that failed."""
    script = ["set -e -o pipefail"]
    for block in blocks(page):
        if block.is_run_here:
            script += [f"echo '== {block}'", block.text]
    text = "\n".join(script)
    if "curl " in text and not shutil.which("curl"):
        assert not os.environ.get("CI"), "install curl"
        pytest.skip("its commands are curl's, which is not installed")
    for address, name in {"localhost:8000": "HTTP", "localhost:50051": "GRPC"}.items():
        text = text.replace(address, f"localhost:{home.environ[f'HEADRACE_{name}_PORT']}")
    done = subprocess.run(
        ["bash", "-c", text],
        cwd=home.folder / "cwd",
        env=home.environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PAGE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout
