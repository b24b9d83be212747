"""Which options of a deployment are honoured, refused, or answered with a warning."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.errors import InvalidRequest
from gateway.models.engines import QUANTIZATIONS, SPECS, resolve

OPENVINO = SPECS["openvino"]


def test_every_engine_has_its_row() -> None:
    for name, spec in SPECS.items():
        assert spec.name == name
        assert all(set(words) <= set(QUANTIZATIONS) for words in spec.quantizations.values())


def test_what_is_in_force_fits_the_engine_config() -> None:
    effective = resolve(OPENVINO, format="gguf", device="cpu0", use_flash_attention=False)
    assert effective.warnings == []
    assert effective.config == {
        "quantization": "none",
        "tensor_parallel_size": 1,
        "cpu_offload": False,
        "use_flash_attention": False,
        "use_kv_cache": True,
    }


def test_preferences_that_are_not_there_become_warnings_that_say_what_is_used() -> None:
    effective = resolve(OPENVINO, format="gguf", device="cpu0", use_flash_attention=True, use_kv_cache=False)
    assert effective.config["use_flash_attention"] is False
    assert effective.config["use_kv_cache"] is True
    flash, cache = effective.warnings
    assert "use_flash_attention" in flash
    assert "paged attention" in flash
    assert "use_kv_cache" in cache


@pytest.mark.parametrize(
    ("wrong", "field", "text"),
    [
        ({"quantization": "int8"}, "quantization", "A GGUF file runs as it is stored"),
        ({"format": "openvino", "quantization": "bf16"}, "quantization", "With `none` it computes in bf16 where"),
        ({"quantization": "int3"}, "quantization", "allowed: none, bf16, int8, int4"),
        ({"tensor_parallel_size": 2}, "tensor_parallel_size", "in one process, not in 2"),
        ({"cpu_offload": True}, "cpu_offload", "in the host's memory already"),
        ({"cpu_offload": True, "device": "gpu0"}, "cpu_offload", "can't keep weights of gpu"),
        ({"device": "cuda1"}, "device", "cpu, gpu, not on cuda"),
        ({"format": "pickle"}, "source", "it reads: gguf, openvino, safetensors"),
        ({"format": ""}, "source", "can't read a model without files"),
    ],
)
def test_requirements_that_cannot_be_honoured_are_refused_by_name(wrong: dict[str, Any], field: str, text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        resolve(OPENVINO, **{"format": "gguf", "device": "cpu0", **wrong})
    assert caught.value.reason == "option_not_supported"
    assert list(caught.value.errors) == [field]
    assert text in caught.value.errors[field][0]


def test_openvino_compresses_ir_but_not_gguf() -> None:
    assert resolve(OPENVINO, format="openvino", device="cpu0", quantization="int4").config["quantization"] == "int4"


def test_transformers_may_share_a_model_among_processes() -> None:
    spec = SPECS["transformers"]
    assert (
        resolve(spec, format="safetensors", device="cpu0", tensor_parallel_size=2).config["tensor_parallel_size"] == 2
    )
    with pytest.raises(InvalidRequest, match="1 to 8 processes, not in 9"):
        resolve(spec, format="safetensors", device="cuda0", tensor_parallel_size=9)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"quantization": "int8", "tensor_parallel_size": 2}, "tensor_parallel_size"),
        ({"quantization": "int4", "cpu_offload": True}, "cpu_offload"),
        ({"tensor_parallel_size": 2, "cpu_offload": True}, "cpu_offload"),
    ],
)
def test_options_that_exclude_each_other_are_refused_together(options: dict[str, Any], field: str) -> None:
    spec = SPECS["transformers"]
    with pytest.raises(InvalidRequest) as caught:
        resolve(spec, format="safetensors", device="cuda12", **options)
    assert list(caught.value.errors) == [field]


def test_weights_of_a_cuda_device_may_stay_with_the_host() -> None:
    assert resolve(SPECS["transformers"], format="safetensors", device="cuda0", cpu_offload=True).config["cpu_offload"]


def test_all_that_is_wrong_is_named_at_once() -> None:
    with pytest.raises(InvalidRequest) as caught:
        resolve(OPENVINO, format="gguf", device="cpu0", quantization="int4", tensor_parallel_size=2, cpu_offload=True)
    assert set(caught.value.errors) == {"quantization", "tensor_parallel_size", "cpu_offload"}
