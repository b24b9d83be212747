"""Safetensors that OpenVINO serves: exported once, by optimum in an environment of its own.

The commands are those of docs/engines.md.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections import namedtuple
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from gateway.deployments.reasons import FailureReason
from gateway.models.engines import EXPORTED
from tests.apart import command, environment, lend
from tests.deployments import deploy, ended
from tests.engines import loaded_engine
from tests.homes import new_home
from tests.named_models import save_safetensors
from tests.stack import REPOSITORY, Stack, chat, eventually, running
from tests.typed_models import ANSWER_TOKENS, PROMPT, save
from workers.engines.base import EngineConfig, Sampling, SequenceRequest
from workers.engines.failures import LoadFailed
from workers.engines.flush_interval import IMMEDIATE
from workers.engines.openvino import exports
from workers.replica.engine_client import EngineProcess, EngineStartFailed
from workers.tokenizers.load import load_tokenizer

WAIT_S = 300.0
TOOL = "openvino-export"
#: Answers are those of float32 elsewhere.
EXACT = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"}
COLOUR = 'root ::= "red" | "green"'


@pytest.fixture
def config(tmp_path: Path) -> EngineConfig:
    """Of a Llama in float32, where nothing is exported yet and the tool is not installed."""
    folder = save_safetensors(tmp_path / "model")
    return EngineConfig("openvino", str(folder), "CPU", 2, 128, cache_dir=str(tmp_path / "exports"))


def with_tool(config: EngineConfig) -> EngineConfig:
    return replace(config, exporter=str(environment(TOOL).python))


def kept(config: EngineConfig) -> list[Path]:
    folder = Path(config.cache_dir)
    return sorted(folder.iterdir()) if folder.exists() else []


def answer(config: EngineConfig, prompt: Sequence[int], sampling: Sampling) -> list[int]:
    ids: list[int] = []
    with closing(loaded_engine(config)) as engine:
        eos_ids = load_tokenizer(config.model_path, "openvino").eos_ids if sampling.grammar else ()
        engine.add(SequenceRequest(1, prompt, sampling, list(eos_ids)))
        while engine.has_work():
            ids += [token for output in engine.step() for token in output.token_ids]
    return ids


# -- without the tool


def test_without_the_tool_the_command_that_installs_it_is_named(config: EngineConfig) -> None:
    engine = EngineProcess.start(config, IMMEDIATE)
    with closing(engine), pytest.raises(EngineStartFailed, match="headrace engine install openvino-export") as caught:
        engine.wait_ready(WAIT_S)
    assert caught.value.reason is FailureReason.UNSUPPORTED_ARCHITECTURE
    assert kept(config) == []


def test_a_disk_without_room_is_told_before_anything_is_made(
    config: EngineConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10, 10, 0))
    with pytest.raises(LoadFailed, match="OpenVINO IR of model takes") as caught:
        exports.exported(replace(config, exporter="/bin/false"), lambda _: None)
    assert caught.value.reason == FailureReason.NO_SPACE
    assert kept(config) == []


def test_a_tool_that_does_not_work_is_a_crash_that_leaves_nothing(config: EngineConfig) -> None:
    with pytest.raises(LoadFailed, match="the export to OpenVINO IR ended with status 1"):
        exports.exported(replace(config, exporter="/bin/false"), lambda _: None)
    assert kept(config) == []


def test_what_is_kept_is_found_by_the_files_and_the_quantization(
    config: EngineConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "_export", lambda config, place, on_part: place.mkdir(parents=True))
    file = Path(config.model_path, "model.safetensors")

    def place(**changes: Any) -> Path:
        return exports.exported(replace(config, **changes), lambda _: None)

    assert place() == place()
    found = {place(), place(quantization="int8")}
    os.utime(file, ns=(1, 1))
    found.add(place())
    assert len(found) == 3


def test_what_nobody_has_loaded_for_a_month_is_removed(config: EngineConfig) -> None:
    folder = Path(config.cache_dir)
    ages = {"used": 20, "old": 31, ".made-now": 0, ".left-behind": 2}
    for name, days in ages.items():
        (folder / name).mkdir(parents=True)
        os.utime(folder / name, (then := time.time() - days * 86_400, then))
    with pytest.raises(LoadFailed):
        exports.exported(replace(config, exporter="/bin/false"), lambda _: None)
    assert [path.name for path in kept(config)] == [".made-now", "used"]


# -- with it


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_it_is_exported_once_and_follows_grammars(config: EngineConfig) -> None:
    heard: list[tuple[str, int, int]] = []
    engine = EngineProcess.start(with_tool(config), IMMEDIATE)
    with closing(engine):
        info = engine.wait_ready(WAIT_S, lambda *progress: heard.append(progress))
    assert [done for stage, done, _ in heard if stage == "model_initialization"] == [0, 1, 2, 3, 4]
    # In 8 bits with their scales, as other formats.
    assert info.effective["kv_cache_bytes"] < 2 * info.effective["kv_capacity_tokens"] * 128
    (made,) = kept(config)
    ids = answer(config, PROMPT, Sampling(8, temperature=1.0, grammar=COLOUR))  # the tool is not needed any more
    assert load_tokenizer(config.model_path, "openvino").decode(ids[:-1]) in ("red", "green")
    assert kept(config) == [made]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_weights_are_compressed_once_too(config: EngineConfig) -> None:
    small = replace(with_tool(config), quantization="int8")
    ids = answer(small, PROMPT, Sampling(8, temperature=0.0))
    assert len(ids) == 8
    (made,) = kept(config)
    source = Path(config.model_path, "model.safetensors").stat().st_size
    assert (made / "openvino_model.bin").stat().st_size < 0.3 * source
    assert answer(replace(small, exporter=""), PROMPT, Sampling(8, temperature=0.0)) == ids


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_what_can_not_be_exported_fails_with_the_reason_and_leaves_nothing(config: EngineConfig) -> None:
    file = Path(config.model_path, "model.safetensors")
    file.write_bytes(file.read_bytes()[:-100_000])
    with pytest.raises(LoadFailed) as caught:
        exports.exported(with_tool(config), lambda _: None)
    assert caught.value.reason == FailureReason.CHECKSUM
    assert kept(config) == []


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("victim", ["engine", "export"])
def test_a_death_while_it_is_exported_leaves_nothing(config: EngineConfig, victim: str) -> None:
    engine = EngineProcess.start(with_tool(config), IMMEDIATE)
    with closing(engine):
        child = eventually(lambda: exporting(engine), "it is exported", WAIT_S)
        assert len(kept(config)) == 1
        (child if victim == "export" else psutil.Process(engine.pid)).kill()
        with pytest.raises(EngineStartFailed, match="killed by SIGKILL") as caught:
            engine.wait_ready(WAIT_S)
        assert caught.value.reason is FailureReason.ENGINE_CRASHED
        eventually(lambda: kept(config) == [], "nothing is left", WAIT_S)
        eventually(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, "it is gone", WAIT_S)


def exporting(engine: EngineProcess) -> psutil.Process | None:
    """The process that exports for an engine, once there is one."""
    children = psutil.Process(engine.pid).children()
    return next((one for one in children if "workers.engines.openvino.export_process" in one.cmdline()), None)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_types_of_models_answer_as_in_transformers(tmp_path: Path) -> None:
    """In 32 bits. They are exported in one process, which takes most of the time to begin."""
    expected = {name: save(tmp_path / name, name) for name in EXPORTED}
    folders = [str(tmp_path / name) for name in EXPORTED]
    done = subprocess.run(
        command(TOOL, "tests.typed_models", *folders),
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    greedy = Sampling(ANSWER_TOKENS, temperature=0.0)
    for name in EXPORTED:
        made = EngineConfig("openvino", str(tmp_path / name / "draft" / "whole"), "CPU", 2, 256, {"properties": EXACT})
        assert answer(made, PROMPT, greedy) == expected[name], name


# -- served

CATALOG = """
[models.small]
capabilities = ["chat", "completion"]
engine = "openvino"
source = "{source}"
quantization = "int8"
context_length = 1024
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("x")
    lend(TOOL, folder)
    source = save_safetensors(folder / "small")
    with running(folder, {}, catalog=CATALOG.format(source=source)) as stack:
        yield stack


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_deployment_exports_and_its_stream_goes_on_when_the_engine_is_killed(stack: Stack) -> None:
    with stack.client() as client:
        found = ended(client, deploy(client, "small"), 300)
    assert found["status"] == "completed", found
    assert any("openvino-export exports it when it is first loaded" in line["message"] for line in found["logs"])
    assert [path.name[-5:] for path in (stack.settings.data_dir / "exports").iterdir()] == ["-int8"]
    stream = chat(stack, model="small", max_tokens=600, temperature=0)
    eventually(lambda: len(stream.ids) > 3, "it runs")
    psutil.Process(stack.replica("small").engine_pid).kill()
    stream.join()
    assert (stream.error, stream.finish_reason) == (None, "length")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_commands_of_engines_md(tmp_path: Path) -> None:
    """It was installed by them: `make deps-engines` calls what the command calls."""
    home = new_home(tmp_path)
    assert (
        "openvino-export  not installed: headrace engine install openvino-export"
        in home.command("engine", "list").stdout
    )
    lend(TOOL, Path(home.data))
    said = home.command("engine", "install", "openvino-export").stdout
    assert "openvino-export is there already: optimum-intel 2.2.0 for cpu" in said
    assert "openvino-export  optimum-intel 2.2.0 for cpu" in home.command("engine", "list").stdout
