"""Where replicas go, and what a plan makes of a request: over devices as their agents tell of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import redis

from gateway.cluster.desired import ReplicaSpec, SpecState
from gateway.cluster.known_footprints import Footprints
from gateway.cluster.registry import Device, Registry
from gateway.deployments.placement import place
from gateway.deployments.planning import Planner
from gateway.errors import DoesNotFit, InvalidRequest, NoDevice
from gateway.models.catalog import load_catalog
from gateway.models.entry import Model
from gateway.models.footprint import Footprint
from gateway.settings import Settings
from schemas.deployments import DeployRequest, DeployRequestSchema

GB = 10**9


def device(name: str, free: int = 8 * GB, engines: Sequence[str] = ("fake", "openvino")) -> Device:
    node, _, kind = name.partition(".")
    return Device(f"agent:{name}", node, kind, pid=1, memory_total=free, memory_free=free, engines=tuple(engines))


SMALL, LARGE, BARE = device("n1.cpu0"), device("n2.cpu0", 64 * GB), device("n3.cpu0", 99 * GB, ["fake"])
ALL = (SMALL, LARGE, BARE)


def names(*args: Any, **kwargs: Any) -> list[str]:
    return [found.name for found in place(*args, **{"needs": ["openvino"], "replicas": None, **kwargs})]


def test_without_a_target_it_goes_where_most_memory_is_free_and_the_engine_is() -> None:
    assert names(ALL, []) == ["n2.cpu0"]
    assert names(ALL, [], needs=["fake"]) == ["n3.cpu0"]


def test_more_replicas_than_devices_take_turns() -> None:
    assert names(ALL, [], replicas=3) == ["n2.cpu0", "n1.cpu0", "n2.cpu0"]


def test_a_target_is_a_node_or_one_device_of_it_and_each_gets_one() -> None:
    second = device("n1.cpu1", 32 * GB)
    assert names([*ALL, second], ["n1", "n2"]) == ["n1.cpu1", "n2.cpu0"]
    assert names([*ALL, second], ["n1.cpu0"]) == ["n1.cpu0"]
    assert names([*ALL, second], ["n1.cpu0"], replicas=2) == ["n1.cpu0", "n1.cpu0"]


def test_a_target_that_can_not_take_it_is_named_with_what_can_be_done() -> None:
    with pytest.raises(NoDevice, match=r"no node 'n9' .* alive are: n1.cpu0, n2.cpu0, n3.cpu0"):
        names(ALL, ["n9"])
    with pytest.raises(InvalidRequest, match=r"Not installed on n3.cpu0: openvino") as lacking:
        names(ALL, ["n3"])
    assert lacking.value.reason == "option_not_supported"
    with pytest.raises(InvalidRequest, match=r"n2.cpu0, .*: openvino-export. .* \(headrace engine install open"):
        names(ALL, [], needs=["openvino", "openvino-export"])
    with pytest.raises(NoDevice, match="No agent is alive"):
        names([], [])


# -- plans


MODEL = Model("m", "M", "", "1", ("chat",), engine="openvino", context_length=4096)
#: 1 GB of weights.
FOOTPRINT = Footprint(
    format="openvino", weights_bytes=GB, num_parameters=GB // 2, bits_per_weight=16, kv_bytes_per_token=1 << 14
)


@pytest.fixture
def planner(redis_client: redis.Redis, settings: Settings) -> Planner:
    return Planner(settings, Registry(redis_client))


def alive(planner: Planner, *devices: Device, footprint: Footprint | None = FOOTPRINT) -> None:
    registry = planner._registry
    for one in devices:
        registry.beat_device(one, lease_s=60)
        if footprint:
            Footprints(registry.redis).publish(one.node, one.device, {MODEL.id: footprint})


def request(**fields: Any) -> DeployRequest:
    found = DeployRequestSchema().load({"model_type": "m", **fields})
    assert isinstance(found, DeployRequest)
    return found


def test_what_an_engine_must_export_goes_where_the_tool_for_it_is(planner: Planner) -> None:
    exporting = device("n4.cpu0", engines=("openvino", "openvino-export"))
    stored = replace(FOOTPRINT, format="safetensors")
    alive(planner, LARGE, footprint=stored)
    with pytest.raises(InvalidRequest, match="headrace engine install openvino-export"):
        planner.deployment(MODEL, request(), "deploy-1")
    alive(planner, exporting, footprint=stored)
    assert [one.node for one in planner.deployment(MODEL, request(), "deploy-1").specs] == ["n4"]


def test_a_plan_has_a_replica_with_a_name_of_its_own_for_each_device(planner: Planner) -> None:
    alive(planner, SMALL, LARGE)
    planned = planner.deployment(MODEL, request(target_nodes=["n1", "n2"]), "deploy-123456789")
    assert [(one.node, one.device, one.state) for one in planned.specs] == [
        ("n1", "cpu0", SpecState.RUNNING),
        ("n2", "cpu0", SpecState.RUNNING),
    ]
    assert len({one.replica_id for one in planned.specs}) == 2
    assert {one.deployment_id for one in planned.specs} == {"deploy-123456789"}
    assert planned.fits is True
    planned.require_room()


def test_replicas_of_one_device_add_up(planner: Planner) -> None:
    alive(planner, LARGE)
    one, two = (planner.deployment(MODEL, request(replicas=count), "d-1").plans["n2.cpu0"] for count in (1, 2))
    assert one is not None and two is not None
    assert two.total_bytes == 2 * one.total_bytes


def test_what_does_not_fit_is_refused_with_what_would(planner: Planner) -> None:
    alive(planner, device("n1.cpu0", GB), LARGE)
    planned = planner.deployment(MODEL, request(target_nodes=["n1"]), "d-1")
    assert planned.fits is False
    with pytest.raises(DoesNotFit, match=r"has 1.00 GB free. What would fit: .*target_nodes \['n2.cpu0'\]") as caught:
        planned.require_room()
    assert caught.value.details["memory_plan"]["n1.cpu0"]["total_bytes"] > GB


def test_a_device_that_does_not_know_the_size_neither_fits_nor_does_not(planner: Planner) -> None:
    alive(planner, SMALL, footprint=None)
    planned = planner.deployment(MODEL, request(), "d-1")
    assert (planned.fits, planned.plans) == (None, {"n1.cpu0": None})
    planned.require_room()


def test_the_context_is_the_shortest_that_is_known_and_no_longer_one_can_be_asked_for(planner: Planner) -> None:
    alive(planner, SMALL, footprint=replace(FOOTPRINT, context_length=2048))
    (spec,) = planner.deployment(MODEL, request(), "d-1").specs
    assert spec.context_length == 2048
    with pytest.raises(InvalidRequest, match="Got 4096; the model has 2048"):
        planner.deployment(MODEL, request(deployment_config={"context_length": 4096}), "d-1")


def test_a_model_without_a_context_of_its_own_in_the_catalog_gets_that_of_its_files(planner: Planner) -> None:
    own = replace(MODEL, context_length=0)
    alive(planner, SMALL, footprint=replace(FOOTPRINT, context_length=32_768))
    planned = planner.deployment(own, request(), "d-1")
    assert (planned.specs[0].context_length, planned.effective["context_length"]) == (32_768, 32_768)
    assert not planned.warnings or "context_length" not in planned.warnings[-1]
    with pytest.raises(InvalidRequest, match="Got 40000; the model has 32768"):
        planner.deployment(own, request(deployment_config={"context_length": 40_000}), "d-1")


def test_a_context_of_the_files_that_does_not_fit_is_cut_with_a_word_and_one_that_was_asked_for_is_not(
    planner: Planner,
) -> None:
    own = replace(MODEL, context_length=0)
    alive(planner, device("n1.cpu0", 4 * GB), footprint=replace(FOOTPRINT, context_length=1 << 20))
    planned = planner.deployment(own, request(), "d-1")
    assert planned.fits
    assert 4096 <= planned.specs[0].context_length < 1 << 20
    assert f"{planned.specs[0].context_length} of the model's 1048576" in planned.warnings[-1]
    assert not planner.deployment(own, request(deployment_config={"context_length": 1 << 20}), "d-1").fits
    small_cache = replace(own, options={"cache_gib": 0.25})
    assert planner.deployment(small_cache, request(), "d-1").specs[0].context_length < 1 << 15


def test_more_replicas_go_where_the_fewest_are_with_the_options_of_the_first(planner: Planner) -> None:
    alive(planner, SMALL, LARGE)
    present = [ReplicaSpec("m.n2.cpu0.1", "m", "n2", "cpu0", quantization="int8", max_batch_size=3, context_length=512)]
    planned = planner.more(MODEL, present, 2, "d-2")
    assert [one.node for one in planned.specs] == ["n1", "n2"]
    assert {(one.quantization, one.max_batch_size, one.context_length) for one in planned.specs} == {("int8", 3, 512)}


def test_the_demo_model_is_planned_as_its_catalog_says(planner: Planner, settings: Settings) -> None:
    alive(planner, SMALL, footprint=None)
    model = load_catalog(settings).get("smollm2-135m")
    planned = planner.deployment(model, request(), "d-1")
    assert planned.effective["max_batch_size"] == settings.max_batch_size
    assert planned.effective["context_length"] == model.context_length
