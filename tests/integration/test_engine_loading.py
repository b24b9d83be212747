"""What an engine process says while it loads, and when it can't, to a model worker: real processes."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.deployments.reasons import DeploymentFailed, FailureReason
from gateway.process.crashes import oom_kills
from gateway.settings import Settings
from tests.engines import IN_32_BITS, config_of
from tests.stack import REPOSITORY
from tests.tiny_models import save_tiny_gguf, save_tiny_ir
from workers.engines.base import EngineConfig
from workers.engines.failures import LoadFailed, Reason
from workers.engines.fake import LOAD_PARTS
from workers.engines.flush_interval import IMMEDIATE
from workers.host.failures import failure_of as reason_of
from workers.host.failures import failure_of_exit
from workers.replica.engine_client import EngineProcess, EngineStartFailed

FAKE = EngineConfig("fake", "", "CPU", 2, 64)
WAIT_S = 120.0
STAGES = ["model_initialization", "model_loading"]


def small(model_id: str) -> EngineConfig:
    return config_of(model_id, Settings(max_batch_size=2))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> EngineConfig:
    """A model that OpenVINO loads in a moment."""
    return EngineConfig("openvino", str(save_tiny_gguf(tmp_path_factory.mktemp("tiny") / "tiny.gguf")), "CPU", 2, 256)


@contextmanager
def started(config: EngineConfig) -> Iterator[EngineProcess]:
    engine = EngineProcess.start(config, IMMEDIATE)
    try:
        yield engine
    finally:
        engine.close()


#: Loads a model, and says how many token ids it has and what is left in the folder for temporary files.
LOAD = """
import os, sys, tempfile
from workers.engines.base import EngineConfig
from workers.engines.openvino.openvino_engine import OpenVinoEngine

assert not os.access(sys.argv[1], os.W_OK)
engine = OpenVinoEngine(EngineConfig("openvino", sys.argv[1], "CPU", 2, 256))
print(engine._vocabulary, os.listdir(tempfile.gettempdir()))
"""


def test_a_file_that_may_only_be_read_is_loaded(tiny: EngineConfig, tmp_path: Path) -> None:
    """As one in an image, or on a read-only volume. OpenVINO opens a GGUF file to write to it."""
    path = Path(shutil.copy(tiny.model_path, tmp_path / "tiny.gguf"))
    path.chmod(0o444)
    (tmp_path / "temporary").mkdir()
    # Root may write to it, unless it lacks this capability.
    unprivileged = ["setpriv", "--bounding-set=-dac_override"] if os.geteuid() == 0 else []
    done = subprocess.run(
        [*unprivileged, sys.executable, "-c", LOAD, str(path)],
        cwd=REPOSITORY,
        env={**os.environ, "TMPDIR": str(tmp_path / "temporary")},
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split(maxsplit=1)[1] == "[]\n"


def failure_of(config: EngineConfig) -> EngineStartFailed:
    with started(config) as engine, pytest.raises(EngineStartFailed) as caught:
        engine.wait_ready(WAIT_S)
    return caught.value


@pytest.mark.parametrize("model_id", ["fake", "tiny", "all-minilm-l6-v2"])
def test_every_engine_reports_both_stages_to_their_end(model_id: str, tiny: EngineConfig) -> None:
    heard: list[tuple[str, int, int]] = []
    with started(tiny if model_id == "tiny" else small(model_id)) as engine:
        info = engine.wait_ready(WAIT_S, lambda *progress: heard.append(progress))
    assert list(dict.fromkeys(stage for stage, _, _ in heard)) == STAGES
    for name in STAGES:
        done = [part for stage, part, _ in heard if stage == name]
        total = {whole for stage, _, whole in heard if stage == name}
        assert done == sorted(done)
        assert done[0] == 0
        assert total == {done[-1]}
    assert {"quantization", "devices", "kv_cache"} <= set(info.effective)


def test_loading_comes_in_visible_steps() -> None:
    heard: list[int] = []
    with started(replace(FAKE, options={"load_s": 0.2})) as engine:
        engine.wait_ready(WAIT_S, lambda stage, done, total: heard.append(done))
    assert heard == [*range(LOAD_PARTS + 1)] * 2


@pytest.mark.parametrize("reason", [FailureReason.OUT_OF_MEMORY, FailureReason.NO_SPACE])
def test_a_reason_reaches_the_model_worker(reason: FailureReason) -> None:
    error = failure_of(replace(FAKE, options={"fail_load": reason.value}))
    assert error.reason is reason
    assert error.message == f"The option fail_load says {reason}."


def test_a_process_that_dies_while_it_loads_is_a_crash() -> None:
    error = failure_of(replace(FAKE, options={"crash_load": True}))
    assert error.reason is FailureReason.ENGINE_CRASHED
    assert "with status 70" in error.message


def test_a_process_that_is_killed_while_it_loads_is_a_crash() -> None:
    with started(replace(FAKE, options={"load_s": 60})) as engine:

        def kill(stage: str, done: int, total: int) -> None:
            os.kill(engine.pid, signal.SIGKILL)

        with pytest.raises(EngineStartFailed, match="SIGKILL") as caught:
            engine.wait_ready(WAIT_S, kill)
    assert caught.value.reason is FailureReason.ENGINE_CRASHED


def test_a_load_that_takes_too_long_is_timed_out() -> None:
    with started(replace(FAKE, options={"load_s": 60})) as engine, pytest.raises(EngineStartFailed) as caught:
        engine.wait_ready(0.1)
    assert caught.value.reason is FailureReason.TIMED_OUT


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"model_path": "/nowhere/model.gguf"}, FailureReason.MISSING_FILE),
        ({"quantization": "int8"}, FailureReason.BAD_QUANTIZATION),
        ({"kv_capacity_tokens": 10**10}, FailureReason.OUT_OF_MEMORY),
        ({"options": {"properties": {"INFERENCE_PRECISION_HINT": "f7"}}}, FailureReason.UNSUPPORTED_OPTION),
        ({"options": {"properties": {"SPEED": 11}}}, FailureReason.UNSUPPORTED_OPTION),
    ],
)
def test_openvino_fails_with_a_reason(tiny: EngineConfig, changed: dict[str, Any], reason: FailureReason) -> None:
    assert failure_of(replace(tiny, **changed)).reason is reason


@pytest.mark.parametrize(
    ("properties", "dtypes", "in_32_bits"),
    [
        ({}, {"f32", "bf16"}, False),
        ({"INFERENCE_PRECISION_HINT": "f32"}, {"f32"}, False),
        ({"EXECUTION_MODE_HINT": "ACCURACY"}, {"dynamic"}, False),
        (IN_32_BITS["properties"], {"f32"}, True),
    ],
)
def test_openvino_says_what_it_computes_in(
    tiny: EngineConfig, properties: dict[str, Any], dtypes: set[str], in_32_bits: bool
) -> None:
    with started(replace(tiny, options={"properties": {"INFERENCE_NUM_THREADS": 2, **properties}})) as engine:
        effective = engine.wait_ready(WAIT_S).effective
    assert effective["dtype"] in dtypes
    assert effective["in_32_bits"] is in_32_bits
    assert effective["threads"] == 2


def test_openvino_serves_with_one_thread(tmp_path: Path) -> None:
    """Weights in 16 bits, on a processor with AMX: in bf16 it would be killed by SIGFPE."""
    one = {"properties": {"INFERENCE_NUM_THREADS": 1}}
    with started(EngineConfig("openvino", str(save_tiny_ir(tmp_path)), "CPU", 2, 64, options=one)) as engine:
        effective = engine.wait_ready(WAIT_S).effective
    assert (effective["dtype"], effective["threads"]) == ("f32", 1)


def test_openvino_names_an_architecture_that_it_does_not_know(tmp_path: Path, tiny: EngineConfig) -> None:
    """A right file, with another word where its architecture is named."""
    word = b"\x05" + bytes(7)
    weights = Path(tiny.model_path).read_bytes()
    changed = weights.replace(word + b"llama", word + b"llamx", 1)
    assert changed != weights
    (tmp_path / "odd.gguf").write_bytes(changed)
    error = failure_of(replace(tiny, model_path=str(tmp_path / "odd.gguf")))
    assert error.reason is FailureReason.UNSUPPORTED_ARCHITECTURE
    assert "odd.gguf" in error.message


def test_an_empty_folder_is_a_missing_file(tmp_path: Path, tiny: EngineConfig) -> None:
    assert failure_of(replace(tiny, model_path=str(tmp_path))).reason is FailureReason.MISSING_FILE


@pytest.mark.slow
def test_embeddings_are_offered_in_bf16_but_not_in_int8() -> None:
    config = small("all-minilm-l6-v2")
    with started(replace(config, quantization="bf16")) as engine:
        assert engine.wait_ready(WAIT_S).effective["quantization"] == "bfloat16"
    assert failure_of(replace(config, quantization="int8")).reason is FailureReason.BAD_QUANTIZATION


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (DeploymentFailed(FailureReason.CHECKSUM, "text"), FailureReason.CHECKSUM),
        (LoadFailed(Reason.BAD_QUANTIZATION, "text"), FailureReason.BAD_QUANTIZATION),
        (MemoryError(), FailureReason.OUT_OF_MEMORY),
        (OSError(errno.ENOSPC, "text"), FailureReason.NO_SPACE),
        (OSError(errno.ENOMEM, "text"), FailureReason.OUT_OF_MEMORY),
        (FileNotFoundError(errno.ENOENT, "text"), FailureReason.MISSING_FILE),
        (KeyError("text"), FailureReason.INTERNAL),
    ],
)
def test_errors_have_reasons(error: Exception, reason: FailureReason) -> None:
    assert reason_of(error)[0] is reason
    assert reason_of(error)[1]
    outer = RuntimeError("what the library made of it")
    outer.__cause__ = error
    assert reason_of(outer)[0] is reason


def test_torch_says_out_of_memory_in_a_way_that_is_understood() -> None:
    import torch

    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert reason_of(caught.value)[0] is FailureReason.OUT_OF_MEMORY


def test_a_kill_by_the_kernel_for_memory_is_told_from_others(tmp_path: Path) -> None:
    (tmp_path / "vmstat").write_text("nr_free_pages 7\noom_kill 3\n")
    assert oom_kills(tmp_path / "vmstat") == 3
    assert oom_kills(tmp_path / "none") == 0
    assert failure_of_exit(-signal.SIGKILL, new_oom_kills=1)[0] is FailureReason.OUT_OF_MEMORY
    assert failure_of_exit(-signal.SIGSEGV, new_oom_kills=1)[0] is FailureReason.ENGINE_CRASHED
    assert failure_of_exit(-signal.SIGKILL, new_oom_kills=0)[0] is FailureReason.ENGINE_CRASHED
