"""A new engine is one module and one entry; and an engine process needs nothing of Headrace but its own room."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import venv
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from gateway.deployments.memory import Footprint, Load, plan
from gateway.deployments.reasons import FailureReason
from gateway.jobs.record import Job, JobState
from gateway.models.catalog import load_catalog
from gateway.models.engines import SPECS, EngineSpec
from gateway.settings import Settings
from tests.stack import eventually
from workers import engines
from workers.engines.base import EngineConfig, Sampling, SequenceOutput, SequenceRequest
from workers.engines.failures import Reason
from workers.engines.fake import fake_token
from workers.engines.flush_interval import IMMEDIATE
from workers.handlers.base import EngineRun, load_work
from workers.host.devices import installed_engines
from workers.replica.engine_client import EngineProcess, EngineStartFailed

#: All that somebody writes who brings an engine: it gives the tokens of the prompt back.
MODULE = """
from workers.engines.base import EngineInfo, SequenceOutput


class EchoEngine:
    def __init__(self, config, report):
        self.info = EngineInfo("echo", config.context_length, "echo-1", [])
        self._requests = {}

    def add(self, request):
        self._requests[request.sequence_id] = request

    def cancel(self, sequence_id):
        self._requests.pop(sequence_id, None)

    def has_work(self):
        return bool(self._requests)

    def num_sequences(self):
        return len(self._requests)

    def kv_used_tokens(self):
        return 0

    def step(self):
        done, self._requests = self._requests, {}
        return [SequenceOutput(i, list(request.prompt_ids), None, "stop") for i, request in done.items()]
"""
#: And of one whose library starts a process of its own, which says where it may be found.
PARENT = """
import multiprocessing
import time

from echo_engine import EchoEngine
from workers.engines.base import EngineConfig


def live(config, path):
    open(path, "w").write(str(multiprocessing.current_process().pid))
    time.sleep(1000)


class ParentEngine(EchoEngine):
    def __init__(self, config, report):
        super().__init__(config, report)
        multiprocessing.get_context("spawn").Process(target=live, args=(config, config.model_path)).start()
"""
ENTRY = EngineSpec(
    name="echo",
    implementation="echo_engine:EchoEngine",
    requires=(),
    devices=("cpu",),
    quantizations={"": ("none",)},
    attention="",
    base_bytes=50 << 20,
)
#: What engines' libraries are called, beside the standard library and numpy.
LIBRARIES = {
    *("openvino", "openvino_genai", "nncf", "torch", "torchao", "transformers", "safetensors", "accelerate"),
    *("llguidance", "tokenizers", "vllm"),
}
ROOM = Path(engines.__file__).parent


def answer(engine: EngineProcess, request: SequenceRequest) -> list[SequenceOutput]:
    """All that an engine makes of one sequence."""
    engine.submit([request])
    outputs: list[SequenceOutput] = []
    while not (outputs and outputs[-1].finish_reason):
        frame = engine.read(10)
        assert frame is not None
        outputs += frame.outputs
    return outputs


def test_a_new_engine_is_one_module_and_one_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "echo_engine.py").write_text(MODULE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setitem(SPECS, "echo", ENTRY)
    entry = {"echo-1": {"engine": "echo", "capabilities": ["chat"], "context_length": 512}}
    catalog = load_catalog(Settings(models_json=json.dumps(entry)))
    model = catalog.get("echo-1")
    assert model.has_weights
    assert "echo" in installed_engines(tmp_path)
    assert plan(Footprint(), Load("echo", device="cpu0"), 1 << 30).total_bytes == ENTRY.base_bytes
    config = EngineConfig("echo", "", "CPU", 2, 512)
    work = load_work(config, model, catalog)
    asked = {"messages": [{"role": "user", "content": "one two three"}], "temperature": 1.0, "top_p": 1.0}
    run = work.prepare(Job("chatcmpl-1", JobState.RUNNING, "chat", "echo-1", "key", asked, claim="c"), None)
    assert isinstance(run, EngineRun)
    (request,) = run.requests(first_sequence_id=0)
    with closing(EngineProcess.start(config, IMMEDIATE)) as engine:
        assert engine.wait_ready(30).weights_digest == "echo-1"
        (output,) = answer(engine, request)
    assert output.token_ids == request.prompt_ids
    assert len(output.token_ids) == 3


def test_what_a_library_starts_by_multiprocessing_has_the_room_and_ends_with_the_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "echo_engine.py").write_text(MODULE)
    (tmp_path / "parent_engine.py").write_text(PARENT)
    (tmp_path / "pid").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setitem(SPECS, "parent", replace(ENTRY, name="parent", implementation="parent_engine:ParentEngine"))
    with closing(EngineProcess.start(EngineConfig("parent", str(tmp_path / "pid"), "CPU", 2, 64), IMMEDIATE)) as engine:
        engine.wait_ready(30)
        child = psutil.Process(int(eventually((tmp_path / "pid").read_text, "it has begun")))
        engine.kill()
    eventually(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, "it has ended")


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An interpreter without any package."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, symlinks=True)
    python = str(folder / "bin" / "python")
    for name in ("gateway", "orjson", "redis", "psutil", "numpy", "workers"):
        done = subprocess.run([python, "-I", "-c", f"import {name}"], capture_output=True, cwd=folder, check=False)
        assert done.returncode == 1, name
    return python


def test_an_engine_runs_under_an_interpreter_without_any_package(bare: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    with closing(EngineProcess.start(EngineConfig("fake", "", "CPU", 2, 64), IMMEDIATE, python=bare)) as engine:
        engine.wait_ready(30)
        assert bare in Path(f"/proc/{engine.pid}/cmdline").read_text()
        assert "PYTHONPATH" not in Path(f"/proc/{engine.pid}/environ").read_text()
        outputs = answer(engine, SequenceRequest(1, [1], Sampling(5), key="job/1"))
    assert [i for output in outputs for i in output.token_ids] == [fake_token("job/1", n) for n in range(5)]


def test_an_engine_whose_library_that_interpreter_lacks_says_so(bare: str) -> None:
    engine = EngineProcess.start(EngineConfig("openvino", str(ROOM), "CPU", 2, 64), IMMEDIATE, python=bare)
    with closing(engine), pytest.raises(EngineStartFailed, match="No module named 'numpy'"):
        engine.wait_ready(30)


@pytest.mark.parametrize("file", sorted(ROOM.rglob("*.py")), ids=lambda file: str(file.relative_to(ROOM)))
def test_the_room_imports_the_standard_library_its_own_and_the_engines(file: Path) -> None:
    for node in ast.walk(ast.parse(file.read_text())):
        named = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        named = [alias.name for alias in node.names] if isinstance(node, ast.Import) else named
        for name in named:
            top = name.partition(".")[0]
            own = name == "workers.engines" or name.startswith("workers.engines.")
            assert own or top in LIBRARIES | {"numpy", "optimum"} | sys.stdlib_module_names, name


def test_engines_say_words_that_deployments_know() -> None:
    assert set(Reason) <= set(FailureReason)
