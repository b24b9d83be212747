"""Weights are others if their files or their quantization are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from workers.engines.base import EngineConfig
from workers.engines.weights import weights_digest


def test_files_and_quantization_make_the_digest(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(bytes(3 << 20))
    (tmp_path / "config.json").write_text("{}")
    config = EngineConfig("transformers", str(tmp_path), "CPU", 4, 64)
    first = weights_digest(config)
    assert weights_digest(replace(config, max_batch_size=8)) == first
    assert len({first, *(weights_digest(replace(config, quantization=word)) for word in ("bf16", "int8", "int4"))}) == 4
    (tmp_path / "model.safetensors").write_bytes(bytes(3 << 20) + b"1")
    assert weights_digest(config) != first
    alone = replace(config, model_path=str(tmp_path / "model.safetensors"))
    assert weights_digest(alone) not in (first, weights_digest(config))
