"""Weights of OpenVINO IR that NNCF makes smaller, in a process of its own. Nothing is left of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from gateway.deployments.reasons import FailureReason
from tests.tiny_models import save_tiny_ir
from workers.engines.base import EngineConfig
from workers.engines.children import spawn
from workers.engines.failures import LoadFailed
from workers.engines.flush_interval import IMMEDIATE
from workers.engines.frames import FrameSocket
from workers.engines.openvino.copies import compressed
from workers.replica.engine_client import EngineProcess, EngineStartFailed

#: Seconds that anything here may take.
WAIT_S = 120.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_ir(tmp_path_factory.mktemp("ir"))


def weights(folder: Path) -> int:
    """Bytes of the weights in a folder."""
    return (folder / "openvino_model.bin").stat().st_size


def test_int4_is_a_smaller_copy_that_ends_with_the_context(folder: Path) -> None:
    with compressed(folder, "int4") as copy:
        # The table of the vocabulary, most of this tiny model, is in 8 bits.
        assert weights(copy) < 0.6 * weights(folder)
        assert (copy / "generation_config.json").read_text() == (folder / "generation_config.json").read_text()
        with pytest.raises(LoadFailed, match=r"stored as u[48] already") as caught, compressed(copy, "int8"):
            pass
        assert caught.value.reason == FailureReason.BAD_QUANTIZATION
    assert not copy.exists()


def test_a_folder_without_a_model_is_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(LoadFailed) as caught, compressed(tmp_path, "int8"):
        pass
    assert caught.value.reason == FailureReason.MISSING_FILE


def test_a_process_that_ends_before_it_was_asked_is_the_reason(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def doomed(*args: Any, **kwargs: Any) -> Any:
        process, ours = spawn(*args, **kwargs)
        process.kill()
        process.wait()
        return process, ours

    monkeypatch.setattr("workers.engines.openvino.copies.spawn", doomed)
    with pytest.raises(LoadFailed, match="compressing the weights ended with status -9"), compressed(folder, "int8"):
        pass


@pytest.mark.parametrize("victim", ["engine", "compression"])
def test_a_death_while_it_compresses_leaves_nothing(
    folder: Path, victim: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    engine = EngineProcess.start(EngineConfig("openvino", str(folder), "CPU", 2, 64, quantization="int8"), IMMEDIATE)
    try:
        assert await_true(lambda: compressing(engine) is not None)
        child = compressing(engine)
        assert child is not None
        assert list(tmp_path.glob("headrace-*"))
        (child if victim == "compression" else psutil.Process(engine.pid)).kill()
        with pytest.raises(EngineStartFailed, match="killed by SIGKILL") as caught:
            engine.wait_ready(WAIT_S)
        assert caught.value.reason is FailureReason.ENGINE_CRASHED
        assert await_true(lambda: not list(tmp_path.glob("headrace-*")))
        assert await_true(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
    finally:
        engine.close()


def test_an_engine_that_is_gone_when_the_copy_is_ready_leaves_none(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    process, ours = spawn("workers.engines.openvino.compression_process")
    with ours:
        FrameSocket(ours).send({"folder": str(folder), "copy": str(copy), "quantization": "int8"})
    assert process.wait(WAIT_S) == 0
    assert not copy.exists()


def compressing(engine: EngineProcess) -> psutil.Process | None:
    """The process that compresses for an engine, once there is one."""
    for child in psutil.Process(engine.pid).children():
        with suppress(psutil.Error):
            if "workers.engines.openvino.compression_process" in child.cmdline():
                return child
    return None


def await_true(condition: Callable[[], bool]) -> bool:
    """Whether a condition that another process brings about holds in time."""
    deadline = time.monotonic() + WAIT_S
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
