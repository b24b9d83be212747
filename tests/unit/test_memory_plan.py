"""What a memory plan says of models that processes share, and of weights that are made smaller."""

from __future__ import annotations

from dataclasses import replace

from gateway.deployments.memory import Footprint, Load, plan

MODEL = Footprint(format="safetensors", weights_bytes=8 << 20, num_parameters=4 << 20, kv_bytes_per_token=1 << 10)
LOAD = Load("transformers", max_batch_size=4, context_length=1024, device="cuda0")


def test_processes_with_a_device_each_share_weights_and_cache() -> None:
    whole, share = plan(MODEL, LOAD, 1 << 40), plan(MODEL, replace(LOAD, tensor_parallel_size=2), 1 << 40)
    assert share.weights_bytes == whole.weights_bytes // 2
    assert share.kv_cache_bytes == whole.kv_cache_bytes // 2
    assert share.workspace_bytes == whole.workspace_bytes


def test_processes_on_one_cpu_need_their_workspaces_on_top() -> None:
    load = replace(LOAD, device="cpu0")
    whole, both = plan(MODEL, load, 1 << 40), plan(MODEL, replace(load, tensor_parallel_size=2), 1 << 40)
    assert both.weights_bytes == whole.weights_bytes
    assert both.kv_cache_bytes == whole.kv_cache_bytes
    assert both.workspace_bytes == 2 * whole.workspace_bytes


def test_the_vocabularys_matrices_stay_as_large_as_the_engine_keeps_them() -> None:
    model = replace(MODEL, outer_parameters=1 << 20, bits_per_weight=16.0)
    inner, outer = 3 << 20, 1 << 20
    expected = {
        ("transformers", "int8"): inner * 1.06 + outer * 2,
        ("transformers", "int4"): inner * 0.63 + outer * 2,
        ("openvino", "int8"): (inner + outer) * 1.06,
        ("openvino", "int4"): inner * 0.63 + outer * 1.06,
        ("transformers", "bf16"): (inner + outer) * 2,
    }
    for (engine, quantization), size in expected.items():
        load = replace(LOAD, engine=engine, quantization=quantization)
        assert plan(model, load, 1 << 40).weights_bytes == int(size), (engine, quantization)


def test_openvino_computes_floats_in_32_bits_on_a_cpu() -> None:
    load = Load("openvino", device="cpu0")
    assert plan(replace(MODEL, bits_per_weight=16.0), load, 1 << 40).weights_bytes == 4 * MODEL.num_parameters
    assert plan(replace(MODEL, bits_per_weight=4.5), load, 1 << 40).weights_bytes == MODEL.weights_bytes


def test_a_load_must_fit_while_weights_are_made_smaller() -> None:
    model = replace(MODEL, num_parameters=1 << 30, weights_bytes=2 << 30, outer_parameters=1 << 20)
    load = replace(LOAD, quantization="int4", device="cuda0")
    found = plan(model, load, 2 << 30)
    assert found.total_bytes < 0.95 * found.free_bytes < found.loading_bytes == found.peak_bytes
    assert not found.fits
    assert plan(model, load, 3 << 30).fits
    whole = plan(model, replace(load, quantization="none"), 1 << 40)
    assert whole.loading_bytes < whole.total_bytes == whole.peak_bytes
