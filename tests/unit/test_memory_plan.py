"""What a memory plan says of models that processes share."""

from __future__ import annotations

from dataclasses import replace

from gateway.memory import Footprint, Load, plan

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
