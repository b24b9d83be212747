"""Weights that others have packed, against what they stand for. test_vllm.py runs it under the interpreter of vLLM."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.apart import VLLM_SHAPE
from tests.engines import loaded_engine
from tests.packed_models import PACKS, save_packed
from workers.engines.base import Engine, EngineConfig, Likely, Sampling, SequenceRequest
from workers.engines.failures import LoadFailed

#: Its engines, until the end: one that is thrown away would take what they share with it.
LOADED: list[Engine] = []


def load(folder: Path) -> Engine:
    LOADED.append(loaded_engine(EngineConfig("vllm", str(folder), "CPU", 2, 256, {"eager": True})))
    return LOADED[-1]


def first(engine: Engine) -> list[Likely]:
    """The likeliest tokens behind a prompt."""
    engine.add(SequenceRequest(0, [5, 6, 7, 8, 9], Sampling(1, temperature=0.0, top_logprobs=5)))
    return [one for output in engine.step() for likely in output.likely or () for one in likely]


@pytest.mark.parametrize("kind", PACKS)
def test_packed_weights_are_the_numbers_that_they_stand_for(tmp_path: Path, kind: str) -> None:
    """But for what 8 bits of the other factor take away on a CPU with AMX."""
    packed, plain = (load(folder) for folder in save_packed(tmp_path, kind, **VLLM_SHAPE))
    assert kind in packed.info.effective["quantization"]
    expected, found = dict(first(plain)), dict(first(packed))
    common = expected.keys() & found.keys()
    assert max(expected, key=lambda i: expected[i]) == max(found, key=lambda i: found[i])
    assert len(common) >= 3
    assert [found[i] for i in common] == pytest.approx([expected[i] for i in common], abs=0.1)


def test_what_only_the_files_tell_is_a_classified_failure(tmp_path: Path) -> None:
    packed, _ = save_packed(tmp_path, "gptq", **VLLM_SHAPE)
    config = (packed / "config.json").read_text()
    (packed / "config.json").write_text(config.replace('"bits": 4', '"bits": 8'))
    with pytest.raises(LoadFailed, match="vLLM can't load it: "):
        load(packed)
