"""`make gpu` with a CPU in the device's place: every part of it has run before it comes to a machine with CUDA."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests import wheel
from tests.gpu.__main__ import Part, environment, run
from tests.gpu.device import nominal_bandwidth
from tests.gpu.models import bytes_read, bytes_saved
from tests.gpu.page import made
from tests.stack import REPOSITORY

WHO = {"raw engine", "headrace", "generate_batch"}


@pytest.mark.slow
@pytest.mark.timeout(1100)
def test_a_rehearsal(tmp_path: Path) -> None:
    told = ["--device", "cpu0", "--parts", "device,contract,tiny", "--streams", "1,4", "--budget-s", "1000"]
    places = ["--wheels", str(tmp_path / "none"), "--out", str(tmp_path)]
    command = [sys.executable, "-m", "tests.gpu", *told, *places]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert done.returncode == 0, done.stdout + done.stderr
    assert found["device"]["copy_bandwidth"] > 0
    assert set(found["contract"]) == {"passed", "seconds"}
    assert found["contract"]["passed"] > 100
    assert set(found["tiny"]["speed"]) == WHO
    for figures in found["tiny"]["speed"].values():
        assert (figures["1"]["tokens"], figures["4"]["tokens"]) == (128, 4 * 128)
    assert found["tiny"]["killed"]["whole"] == found["tiny"]["killed"]["streams"] == 8
    assert "| 4 |" in done.stdout
    assert "8 of 8 streams were whole" in done.stdout


def test_a_part_that_fails_or_takes_too_long_is_said(tmp_path: Path) -> None:
    failed = run(Part("device", ("tests.gpu.device", "--device", "abacus"), 0, 1), sys.executable, tmp_path, 60)
    assert "ended with status 1: " in failed["not_whole"]
    endless = run(Part("device", ("tests.gpu.device", "--device", "cpu0"), 0, 1), sys.executable, tmp_path, 0.1)
    assert endless["not_whole"] == "it had 0 s"


@pytest.mark.slow
def test_its_environment_has_the_wheels_before_the_packages_of_the_machine(tmp_path: Path) -> None:
    python = environment(tmp_path / "venv", wheel.build(tmp_path / "wheels").parent)
    code = "import celery, cli; print(celery.__file__, cli.__file__)"
    told = subprocess.run([python, "-P", "-c", code], cwd=tmp_path, check=True, stdout=subprocess.PIPE, text=True)
    beside, ours = told.stdout.split()
    assert beside.startswith(str(wheel.OTHERS))
    assert ours.startswith(str(tmp_path / "venv"))


def test_the_page_has_what_was_measured_and_says_what_was_not() -> None:
    device = {
        "name": "A card",
        "bandwidth": 4e12,
        "copy_bandwidth": 3e12,
        "python": "3.12.1",
        "versions": {"torch": "2"},
    }
    figures = {"tokens_per_s": 500.0, "ttft_p50_ms": 20.0, "against": {"raw engine": {"tokens_per_s": 0.97}}}
    whole = figures | {"cpu_ms_per_token": {"web": 0.02, "model worker": 0.03, "engine": 9.0}}
    speed = {"raw engine": {"2": figures}, "headrace": {"2": whole}, "generate_batch": {"2": figures}}
    page = made(
        {
            "device": device,
            "contract": {"passed": 99, "failed": 1, "not_whole": "it has ended with status 1"},
            "smollm2": {"bytes_read": 8e9, "speed": speed, "not_whole": "it had 60 s"},
            "llama-8b": {"not_whole": "skipped: 12 s were left, and it takes 60 s"},
        }
    )
    assert "A card, 4.00 TB/s by its maker, 3.00 TB/s by a copy on it; Python 3.12.1, torch 2." in page
    assert "99 tests passed, 1 tests failed (it has ended with status 1)" in page
    assert "| 2 | 500, 20 ms | 50% | x0.97, 20 ms | x0.97 | 0.050 ms |" in page
    assert "Not all of it was measured (it had 60 s)." in page
    assert "Not all of it was measured (skipped: 12 s were left, and it takes 60 s)." in page


def test_what_limits_is_known_of_devices_and_models() -> None:
    assert nominal_bandwidth("NVIDIA H200") == 4.8e12
    assert nominal_bandwidth("NVIDIA L4") == 0.3e12
    assert nominal_bandwidth("NVIDIA L40S") == 0.864e12
    assert nominal_bandwidth("An abacus") is None
    assert round(bytes_saved("llama-8b") / 1e9, 2) == 16.06
    assert bytes_read("smollm2") == bytes_saved("smollm2")
    assert round(bytes_read("smollm2") / 1e6) == 269
