"""Every command of the documentation, run as a reader would: one shell a page, its blocks one after the other.

Only addresses are another: ports that are free here, and the hub of the tests in place of the real one.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.homes import Home, new_home
from tests.hub_server import HubServer
from tests.named_models import save_gguf
from tests.pages import all_pages, blocks
from tests.stack import eventually

#: The page that begins with nothing.
START = "docs/start.md"
PAGES = [page for page in all_pages() if page != START and any(block.is_run_here for block in blocks(page))]
#: Longest time for all commands of a page.
PAGE_S = 600

pytestmark = pytest.mark.timeout(2 * PAGE_S)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubServer]:
    """A hub with the repository that the pages name."""
    folder = tmp_path_factory.mktemp("hub")
    save_gguf(folder / "Qwen3-0.6B-Q8_0.gguf")
    hub = HubServer()
    hub.add("Qwen/Qwen3-0.6B-GGUF", folder)
    with hub.running():
        yield hub


def reader(folder: Path, hub: HubServer) -> Home:
    """Somebody with an installation of their own, in which nothing runs yet."""
    home = new_home(folder)
    (folder / "cwd").mkdir()
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    home.environ |= {"PATH": path, "HF_ENDPOINT": hub.url, "HOME": str(folder), "NO_PROXY": "*"}
    home.environ |= {"HEADRACE_CONFIG": str(folder / "headrace.toml"), "HEADRACE_NODE": "worker-01"}
    home.environ |= {"HEADRACE_DEMO_MODEL": ""}
    return home


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, hub: HubServer) -> Iterator[Home]:
    """An installation of two machines, and one that is gone, on which all pages but the first are tried."""
    home = reader(tmp_path_factory.mktemp("p"), hub)
    try:
        said = home.command("up", "--detach", timeout_s=PAGE_S)
        assert said.returncode == 0, said.stdout
        with machine(home, "worker-02"), machine(home, "worker-03") as gone:
            gone.send_signal(signal.SIGKILL)
            gone.wait()
            eventually(lambda: "worker-03 gone" in " ".join(home.command("nodes").stdout.split()), "it is gone")
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


def run(home: Home, page: str) -> str:
    """Run a page's commands, and return what they print. Fails with the line of the block that failed."""
    script = ["set -e -o pipefail"]
    for block in blocks(page):
        if block.is_run_here:
            script += [f"echo '== {block}'", block.text]
    ports = {"localhost:8000": "HTTP", "localhost:50051": "GRPC"}
    text = "\n".join(script)
    for address, name in ports.items():
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


@pytest.mark.skipif(not shutil.which("curl"), reason="the page's commands are curl's")
def test_the_first_five_minutes(tmp_path: Path, hub: HubServer) -> None:
    home = reader(tmp_path, hub)
    try:
        said = run(home, START)
    finally:
        home.command("down", timeout_s=PAGE_S)
    answers = said.split("== docs/start.md:")[1:]
    assert "Paris" in answers[0]
    assert "Qwen3-0.6B-Q8_0.gguf" in answers[1]
    assert '"finish_reason"' in answers[2]
    assert answers[3].count("data: {") > 5
    assert "data: [DONE]" in answers[4]
    assert answers[5].partition("\n")[2].strip()
    assert "ready    yes" in answers[6]
    assert "five-minutes" in answers[6]
    assert home.command("status").returncode == 3, "nothing runs any more"


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page(home: Home, page: str) -> None:
    assert run(home, page)
