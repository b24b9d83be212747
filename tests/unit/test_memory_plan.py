"""What a memory plan says: of models that processes share, of weights that are made smaller, and of the KV cache."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pytest

from gateway.cluster.desired import ReplicaSpec
from gateway.deployments.memory import UNMEASURED_KV_TOKENS, Load, plan, require_a_sequence
from gateway.errors import InvalidRequest
from gateway.models.catalog import load_catalog
from gateway.models.footprint import Footprint
from gateway.settings import Settings
from schemas.deployments import PlanSchema
from workers.replica.__main__ import engine_config

MODEL = Footprint(format="safetensors", weights_bytes=8 << 20, num_parameters=4 << 20, kv_bytes_per_token=1 << 10)
FORMATS = ("safetensors", "openvino")
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


@pytest.mark.parametrize(
    ("format", "bits", "device", "times"),
    [
        ("gguf", 4.5, "cpu0", 2.2),
        ("gguf", 16.0, "cpu0", 3.0),
        ("gguf", 16.0, "gpu0", 1.0),
        ("openvino", 16.0, "cpu0", 1.0),
        ("openvino", 8.1, "cpu0", 1.0),
    ],
)
def test_openvino_holds_the_weights_of_gguf_on_a_cpu_also_as_they_are_stored(
    format: str, bits: float, device: str, times: float
) -> None:
    model, load = replace(MODEL, format=format, bits_per_weight=bits), Load("openvino", device=device)
    assert plan(model, load, 1 << 40).weights_bytes == int(times * MODEL.weights_bytes)


def test_what_is_exported_must_fit_meanwhile() -> None:
    model = replace(MODEL, weights_bytes=10 << 30, bits_per_weight=16.0)
    exported, read = (plan(replace(model, format=name), Load("openvino", device="cpu0"), 1 << 40) for name in FORMATS)
    assert exported.loading_bytes - read.loading_bytes == pytest.approx(0.3 * model.weights_bytes, rel=0.001)
    assert exported.total_bytes == read.total_bytes


def test_a_load_must_fit_while_weights_are_made_smaller() -> None:
    model = replace(MODEL, num_parameters=1 << 30, weights_bytes=2 << 30, outer_parameters=1 << 20)
    load = replace(LOAD, quantization="int4", device="cuda0")
    found = plan(model, load, 2 << 30)
    assert found.total_bytes < 0.95 * found.free_bytes < found.loading_bytes == found.peak_bytes
    assert not found.fits
    assert plan(model, load, 3 << 30).fits
    whole = plan(model, replace(load, quantization="none"), 1 << 40)
    assert whole.loading_bytes < whole.total_bytes == whole.peak_bytes


def capacity(load: Load, model: Footprint = MODEL) -> int:
    return plan(model, load, 1 << 40).kv_capacity_tokens


def test_the_cache_holds_a_full_batch_in_whole_blocks() -> None:
    found = plan(MODEL, LOAD, 1 << 40)
    assert (found.kv_capacity_tokens, found.kv_cache_bytes) == (4096, 4096 << 10)
    assert found.kv_cache_bytes == found.kv_cache_full_bytes
    assert capacity(replace(LOAD, context_length=1000)) == 4 * 1024


@pytest.mark.parametrize(("device", "total", "limit"), [("cpu0", 64, 1), ("cuda0", 0, 1), ("cuda0", 80, 20)])
def test_it_takes_a_gib_or_a_quarter_of_a_device_by_default(device: str, total: int, limit: int) -> None:
    load = replace(LOAD, max_batch_size=1 << 20, device=device, device_bytes=total << 30)
    found = plan(MODEL, load, 1 << 60)
    assert found.kv_cache_bytes == limit << 30
    assert found.kv_cache_full_bytes == 1 << 40
    assert found.kv_capacity_tokens == limit << 20


def test_one_sequence_fits_whatever_the_limit_is() -> None:
    load = replace(LOAD, context_length=3 << 20, device="cpu0")
    found = plan(MODEL, load, 1 << 60)
    assert (found.kv_capacity_tokens, found.kv_cache_bytes) == (3 << 20, 3 << 30)


def test_the_options_of_an_engine_say_the_size() -> None:
    config = {"max_batch_size": 4, "context_length": 1024, "device": "cpu0"}

    def sized(**options: Any) -> int:
        return capacity(Load.from_config("transformers", {**config, "options": options}))

    assert sized() == 4096
    assert sized(cache_tokens=1030) == 1056
    assert sized(cache_gib=2) == 2 << 20
    assert sized(cache_gib=0.001) == 1024
    for wrong in (0, -1, "1", True, float("nan"), None):
        with pytest.raises(InvalidRequest, match=r"options\.cache_gib"):
            sized(cache_gib=wrong)


def test_a_cache_that_holds_no_full_sequence_is_refused() -> None:
    load = replace(LOAD, device="cpu0", cache_gib=0.0009)
    with pytest.raises(
        InvalidRequest, match=r"cache_gib 0\.0009 holds 928 tokens, .* lower context_length to 928 "
    ) as caught:
        require_a_sequence(MODEL, load)
    assert caught.value.reason == "option_not_supported"
    require_a_sequence(MODEL, replace(load, context_length=928))
    with pytest.raises(InvalidRequest, match="cache_tokens 1000 holds 1024 tokens"):
        require_a_sequence(MODEL, replace(load, cache_tokens=1000, context_length=2000))


def test_blocks_and_steps_are_larger_where_the_engine_says_so() -> None:
    assert capacity(replace(LOAD, context_length=1000, max_batch_size=1)) == 1024
    assert capacity(replace(LOAD, context_length=1030, max_batch_size=1)) == 1280
    assert capacity(replace(LOAD, context_length=1030, max_batch_size=1, device="cpu0")) == 1056
    wide = replace(MODEL, hidden_size=4096)
    on_cuda, on_cpu = (
        plan(wide, replace(LOAD, device=device), 1 << 40).workspace_bytes for device in ("cuda0", "cpu0")
    )
    assert on_cuda - on_cpu == (4096 - 512) * 4096 * 24 * 4


def test_processes_share_the_keys_and_values_of_all_tokens() -> None:
    """So that with a device each, a limit holds as many times the tokens."""
    load = replace(LOAD, max_batch_size=1 << 20, tensor_parallel_size=2)
    assert plan(MODEL, load, 1 << 60).kv_cache_bytes == 1 << 30
    assert capacity(load) == 2 * capacity(replace(load, tensor_parallel_size=1)) == 2 << 20
    assert capacity(replace(load, device="cpu0")) == 1 << 20


def test_keys_and_values_take_what_their_type_does() -> None:
    def per_token(engine: str, model: Footprint = MODEL, **config: Any) -> float:
        found = plan(model, Load.from_config(engine, {"device": "cpu0", **config}), 1 << 40)
        return found.kv_cache_bytes / found.kv_capacity_tokens

    def of(**properties: str) -> dict[str, Any]:
        return {"options": {"properties": properties}}

    asks = replace(MODEL, kv_precision="f16")
    assert per_token("openvino") == 608
    assert per_token("openvino", device="gpu0") == per_token("openvino", asks) == 1024
    assert per_token("openvino", asks, **of(KV_CACHE_PRECISION="f32")) == 2048
    assert per_token("openvino", **of(EXECUTION_MODE_HINT="ACCURACY")) == 2048
    whole = replace(MODEL, bits_per_weight=32.0)
    assert per_token("transformers", whole) == 2048
    assert per_token("transformers", whole, quantization="bf16") == per_token("transformers") == 1024


def test_what_a_replica_leaves_open_is_planned_as_its_engine_is_told() -> None:
    settings = Settings(max_batch_size=5)
    model = replace(load_catalog(settings).get("smollm2-135m"), options={"cache_gib": 2, "threads": 1})
    spec = ReplicaSpec("", model.id, "n1", "cpu0", options={"cache_gib": 3})
    load = Load.from_config(model.engine, asdict(spec.in_full(model, settings.max_batch_size)))
    config = engine_config(model, settings, spec, "", 64)
    for name in load.__dict__.keys() & config.__dict__.keys() - {"device"}:
        assert getattr(load, name) == getattr(config, name), name
    assert (load.max_batch_size, load.context_length, load.cache_gib) == (5, 8192, 3)
    assert (config.options, config.kv_capacity_tokens) == ({"cache_gib": 3, "threads": 1}, 64)


def test_a_model_that_does_not_say_what_a_token_takes_has_a_cache_as_well() -> None:
    found = plan(replace(MODEL, kv_bytes_per_token=0), replace(LOAD, max_batch_size=64), 1 << 40)
    assert (found.kv_capacity_tokens, found.kv_cache_bytes) == (UNMEASURED_KV_TOKENS, 0)


def test_what_clients_see_of_a_plan_is_its_sizes() -> None:
    both = plan(MODEL, LOAD, 1 << 40).times(2)
    assert both.kv_capacity_tokens == 4096
    assert both.kv_cache_bytes == 2 * 4096 << 10
    assert both.to_public().keys() == PlanSchema().fields.keys()
