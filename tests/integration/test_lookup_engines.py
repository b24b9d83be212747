"""What a look-up promises, held against the engines themselves: what it proposes loads, what it refuses does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway.cluster.registry import Device
from gateway.deployments.reasons import SourceFailed
from gateway.models.engines import SPECS, spec_of
from gateway.settings import Settings
from tests.named_models import save_gguf, save_safetensors
from workers.engines import load_engine
from workers.engines.base import EngineConfig, Sampling, SequenceRequest
from workers.engines.failures import LoadFailed
from workers.engines.pytorch.model_types import ask_model_types
from workers.lookup.found import Found
from workers.lookup.look_up import look_up
from workers.tokenizers.load import load_tokenizer

OURS = tuple(name for name, spec in SPECS.items() if not spec.is_apart)
CPU = Device("agent", "n1", "cpu0", 1, memory_total=32 << 30, memory_free=16 << 30, engines=OURS)
OPENVINO = SPECS["openvino"]
#: All that are common in GGUF files.
KINDS = ("F32", "F16", "BF16", "Q8_0", "Q6_K", "Q5_K", "Q5_1", "Q5_0", "Q4_K", "Q4_1", "Q4_0", "Q3_K", "Q2_K", "IQ4_NL")


def found(path: Path) -> Found:
    return look_up(str(path), settings=Settings(data_dir=path.parent), device=CPU)


def answer(proposal: Found) -> list[int]:
    """Some tokens of the model as it was proposed."""
    entry = proposal.entry
    quantization = entry["quantization"] if entry["quantization"] in ("int8", "int4") else "none"
    config = EngineConfig(entry["engine"], proposal.source, "CPU", 2, 256, quantization=quantization)
    engine = load_engine(spec_of(entry["engine"]).implementation, config)
    tokenizer = load_tokenizer(proposal.source, entry["engine"])
    prompt = tokenizer.encode("Hello, world!")
    engine.add(SequenceRequest(1, prompt, Sampling(max_tokens=4, temperature=0.0)))
    ids: list[int] = []
    try:
        while engine.has_work():
            ids += [token for output in engine.step() for token in output.token_ids]
    finally:
        engine.close()
    return ids


@pytest.mark.parametrize("kind", KINDS)
def test_the_types_of_weights_are_those_that_openvino_reads(tmp_path: Path, kind: str) -> None:
    path = save_gguf(tmp_path / "m.gguf", kind=kind)
    if kind in OPENVINO.weight_types["gguf"]:
        assert len(answer(found(path))) == 4
        return
    with pytest.raises(SourceFailed, match=f"does not read weights in {kind} "):
        found(path)
    with pytest.raises((LoadFailed, RuntimeError)):
        load_engine(OPENVINO.implementation, EngineConfig("openvino", str(path), "CPU", 2, 256))


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3", "gemma", "phi3", "mistral3"])
def test_the_architectures_are_those_that_openvino_reads(tmp_path: Path, architecture: str) -> None:
    path = save_gguf(tmp_path / "m.gguf", architecture=architecture)
    if architecture in OPENVINO.architectures["gguf"]:
        assert len(answer(found(path))) == 4
        return
    with pytest.raises(SourceFailed, match=f"does not read the architecture {architecture} from gguf"):
        found(path)
    with pytest.raises(LoadFailed, match="Unsupported model architecture"):
        load_engine(OPENVINO.implementation, EngineConfig("openvino", str(path), "CPU", 2, 256))


def test_a_folder_loads_as_it_was_proposed(tmp_path: Path) -> None:
    assert len(answer(found(save_safetensors(tmp_path / "m")))) == 4


def test_transformers_is_asked_what_it_knows_in_a_process_that_ends() -> None:
    types = ask_model_types({})
    from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING

    known: Any = CONFIG_MAPPING
    assert types.known == set(known)
    causal = {shape.model_type for shape in MODEL_FOR_CAUSAL_LM_MAPPING}
    assert {"llama", "qwen3", "gemma3"} <= types.causal
    assert causal <= types.causal


def test_a_transformers_that_does_not_answer_is_a_failed_load(tmp_path: Path) -> None:
    with pytest.raises(LoadFailed, match="does not say what it knows"):
        ask_model_types({}, python="/bin/false")
