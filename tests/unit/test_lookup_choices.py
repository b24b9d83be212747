"""Which files are a model by their names, and how one is fitted to a device: pure."""

from __future__ import annotations

import pytest

from gateway.cluster.registry import Device
from gateway.deployments.reasons import SourceFailed
from gateway.models.footprint import Footprint
from schemas.catalog import ModelEntrySchema
from workers.lookup.candidates import Candidate, candidates, label_of
from workers.lookup.choose import engines_for
from workers.lookup.fitting import Fitting
from workers.lookup.propose import valid_id

GB = 10**9


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("Qwen3-0.6B-Q4_K_M.gguf", "Q4_K_M"),
        ("qwen2.5-0.5b-instruct-q4_k_m.gguf", "Q4_K_M"),
        ("llama-2-7b.Q5_K_S.gguf", "Q5_K_S"),
        ("Qwen3-0.6B-UD-Q4_K_XL.gguf", "UD-Q4_K_XL"),
        ("Llama-3.2-1B-Instruct-IQ4_XS.gguf", "IQ4_XS"),
        ("qwen2.5-fp16.gguf", "F16"),
        ("m-BF16.gguf", "BF16"),
        ("sub/Q8_0/m-Q8_0-00001-of-00002.gguf", "Q8_0"),
        ("gpt-oss-MXFP4.gguf", "MXFP4"),
        ("QwQ-32B.gguf", ""),
        ("model.gguf", ""),
    ],
)
def test_a_files_name_says_how_its_weights_are_stored(name: str, label: str) -> None:
    assert label_of(name) == label


def test_of_quantizers_files_the_usual_one_comes_first() -> None:
    labels = ["IQ2_M", "BF16", "Q2_K", "Q3_K_M", "Q4_0", "Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0", "UD-Q4_K_XL", "F16"]
    sizes = {f"m-{label}.gguf": 1 for label in labels} | {"mmproj-F16.gguf": 1, "imatrix.gguf": 1, "README.md": 1}
    found = [one.label for one in candidates(sizes)]
    assert found[:6] == ["Q4_K_M", "Q4_0", "Q6_K", "Q8_0", "F16", "UD-Q4_K_XL"]
    assert sorted(found[6:]) == ["BF16", "IQ2_M", "Q2_K", "Q3_K_M", "Q5_K_M"]


def test_a_folder_that_has_a_model_hides_those_below_it() -> None:
    sizes = dict.fromkeys(["model.safetensors", "openvino/openvino_model.xml", "onnx/model.onnx"], 1)
    assert candidates(sizes) == [Candidate("safetensors", "")]
    assert candidates(sizes, path="openvino") == [Candidate("openvino", "openvino")]
    alone = {"package/model/model-00001-of-00002.safetensors": 1}
    assert candidates(alone) == [Candidate("safetensors", "package/model")]


@pytest.mark.parametrize("names", [[], ["README.md"], ["unet/diffusion_pytorch_model.safetensors"], ["a\nb.gguf"]])
def test_nothing_is_no_model(names: list[str]) -> None:
    with pytest.raises(SourceFailed, match=r"no model\.safetensors, openvino_model\.xml or GGUF file"):
        candidates(dict.fromkeys(names, 1))


@pytest.mark.parametrize(
    ("device", "installed", "engines"),
    [
        ("cuda0", ("openvino", "transformers", "vllm", "embedding", "fake"), ["vllm", "transformers"]),
        ("cuda1", ("openvino", "transformers", "embedding"), ["transformers"]),
        ("cpu0", ("vllm", "fake", "transformers", "openvino"), ["openvino", "vllm", "transformers"]),
        ("cpu0", ("vllm",), ["vllm"]),
        ("gpu0", ("openvino", "vllm"), ["openvino"]),
    ],
)
def test_an_engine_that_nobody_names_is_the_preferred_one_of_the_device(
    device: str, installed: tuple[str, ...], engines: list[str]
) -> None:
    assert engines_for(Device("a", "n", device, 1, memory_total=1, memory_free=1, engines=installed)) == engines


def fitting(free: float, *, own: int = 32_768, engine: str = "transformers") -> Fitting:
    """A model of 1 billion parameters in 16 bits, of which a token's keys and values take 0.1 MB."""
    footprint = Footprint(
        format="safetensors",
        weights_bytes=2 * GB,
        num_parameters=GB,
        kv_bytes_per_token=100_000,
        hidden_size=2048,
        vocabulary_size=32_000,
        context_length=own,
        bits_per_weight=16.0,
    )
    device = Device("a", "n", "cpu0", 1, memory_total=int(free), memory_free=int(free))
    return Fitting(
        footprint,
        engine=engine,
        device=device,
        max_batch_size=32,
        context_length=own,
        quantizations=("none", "int8", "int4"),
    )


@pytest.mark.parametrize(
    ("free_gb", "own", "quantization", "context", "sequences"),
    [
        (16, 32_768, "none", 32_768, 0),
        (6.0, 32_768, "none", 16_384, 0),
        (4.2, 32_768, "none", 8192, 1),
        (3.8, 32_768, "int8", 8192, 0),
        (3.0, 32_768, "int8", 8192, 1),
        (4.2, 4096, "none", 4096, 2),
        (3.8, 4096, "none", 4096, 1),
        (3.4, 4096, "int8", 4096, 0),
    ],
)
def test_first_the_cache_gives_way_then_the_context_then_the_weights(
    free_gb: float, own: int, quantization: str, context: int, sequences: int
) -> None:
    best = fitting(free_gb * GB, own=own).best()
    assert best.plan.fits
    assert (best.quantization, best.context_length) == (quantization, context)
    assert best.cache_tokens == sequences * context


def test_what_does_not_fit_at_all_is_the_smallest() -> None:
    best = fitting(GB).best()
    assert not best.plan.fits
    assert (best.context_length, best.cache_tokens) == (512, 512)


def test_alternatives_are_the_other_quantizations_and_the_whole_context() -> None:
    tight = fitting(6 * GB)
    found = tight.alternatives(tight.best())
    assert [one["change"] for one in found] == [
        {"quantization": "int8"},
        {"quantization": "int4"},
        {"context_length": 32_768},
    ]
    assert found[-1]["fits"] is False


@pytest.mark.parametrize(
    ("title", "id"),
    [
        ("Org/Name-1.0:Q4_K_M", "Org/Name-1.0:Q4_K_M"),
        ("my model (copy)", "my-model-copy-"),
        ("local/model", "models/local/model"),
        ("org/embeddings", "org/embeddings-1"),
        ("../..", "model"),
        ("模型", "model"),
        ("a" * 300, "a" * 128),
    ],
)
def test_an_id_is_one_that_the_catalog_takes(title: str, id: str) -> None:
    assert valid_id(title) == id
    ModelEntrySchema(only=["id"]).load({"id": valid_id(title)})
