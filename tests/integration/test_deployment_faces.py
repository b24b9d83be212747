"""Deployments over both faces: whichever began one, REST and gRPC tell the same of it, and refuse the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message

from gateway.access.api_keys import Credentials
from tests.deployments import small_device
from tests.integration.test_faces import Case, ask, compare_errors
from tests.rpc import Client, client, details, start_rpc
from tests.stack import Stack, eventually, free_port, running
from web.rpc.stubs import model_pb2 as pb

_MODEL = """
[models.{name}]
name = "{name}"
description = "For deployments"
version = "1.0"
capabilities = ["chat"]
engine = "fake"
context_length = 4096
max_tokens = 4096
options = {{ {options} }}
"""
OPTIONS = {"second": "load_s = 0.2", "slow": "load_s = 60", "broken": 'fail_load = "BAD_QUANTIZATION"'}
LOCAL = "/models/local"
DEPLOY = f"{LOCAL}/deploy"
ENDED = ("completed", "failed", "cancelled")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("s")
    catalog = [_MODEL.format(name=name, options=options) for name, options in OPTIONS.items()]
    (folder / "headrace.toml").write_text("".join(catalog))
    with running(folder, {"fake": {}}) as stack:
        start_rpc(stack)
        eventually(stack.registry.devices, "the agent says what device it has")
        yield stack


@pytest.fixture
def rpc(stack: Stack) -> Iterator[Client]:
    """A client; what a test has deployed is gone afterwards."""
    with client(stack) as found:
        yield found
    for model in OPTIONS:
        ask(stack, "DELETE", f"{LOCAL}/{model}")
    eventually(lambda: {replica.model for replica in stack.registry.replicas()} == {"fake"}, "the replicas are gone")


def rest(stack: Stack, method: str, path: str, body: Any = None) -> Any:
    """The data of an answer of REST."""
    response = ask(stack, method, path, body)
    assert response.status_code == 200, response.text
    return response.json()["data"]


def as_message(data: dict[str, Any], kind: type[Message]) -> Message:
    """REST's data, field by field; nothing may be left over. A plan that is not known is null there, and empty here."""
    if plans := data.get("memory_plan"):
        data["memory_plan"] = {device: plan or {} for device, plan in plans.items()}
    return ParseDict(data, kind())


def ended(rpc: Client, deployment_id: str) -> pb.GetDeploymentStatusResponse:
    """How a deployment is at its end."""

    def look() -> pb.GetDeploymentStatusResponse | None:
        status = rpc.call("GetDeploymentStatus", pb.GetDeploymentStatusRequest(deployment_id=deployment_id))
        return status if status.status in ENDED else None

    found = eventually(look, "the deployment ends")
    assert isinstance(found, pb.GetDeploymentStatusResponse)
    return found


def told(stack: Stack, deployment_id: str) -> list[dict[str, Any]]:
    """The data of REST's event stream, which has ended."""
    text = ask(stack, "GET", f"{LOCAL}/deployments/{deployment_id}/events").text
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]


def watch(rpc: Client, deployment_id: str, **cursor: Any) -> Any:
    return rpc.call("WatchDeployment", pb.WatchDeploymentRequest(deployment_id=deployment_id, **cursor))


def without_cursor(events: list[pb.DeploymentEvent]) -> list[pb.DeploymentEvent]:
    """Events as REST has them: their cursor is the `id:` there."""
    copies = [pb.DeploymentEvent.FromString(event.SerializeToString()) for event in events]
    for event in copies:
        assert event.seq
        assert event.claim
        event.ClearField("seq")
        event.ClearField("claim")
    return copies


def test_a_deployment_is_the_same_from_both_sides(stack: Stack, rpc: Client) -> None:
    begun = rpc.call(
        "DeployLocalModel",
        pb.DeployLocalModelRequest(
            model_type="second",
            model_size="",
            quantization="none",
            target_nodes=["n1"],
            deployment_config=pb.DeploymentConfig(
                max_batch_size=3,
                context_length=2048,
                use_flash_attention=False,
                use_kv_cache=True,
                tensor_parallel_size=1,
                cpu_offload=False,
                idle_unload_s=1e6,
            ),
            replicas=1,
        ),
    )
    assert (begun.status, begun.model_id) == ("in_progress", "second")
    assert begun.progress_url == f"{LOCAL}/deployments/{begun.deployment_id}"
    assert (begun.effective_config.max_batch_size, begun.effective_config.context_length) == (3, 2048)
    assert begun.effective_config.use_kv_cache
    assert not begun.effective_config.use_flash_attention
    assert begun.estimated_time
    assert begun.created_at
    events = list(watch(rpc, begun.deployment_id))
    assert events[-1].event == "completed"
    status = ended(rpc, begun.deployment_id)
    assert (status.status, status.progress) == ("completed", 100)
    assert [stage.status for stage in status.stages] == ["completed"] * 5
    assert status.replicas[0].measured_bytes > 0
    assert status == as_message(rest(stack, "GET", begun.progress_url), pb.GetDeploymentStatusResponse)
    assert without_cursor(events) == [
        ParseDict(data, pb.DeploymentEvent()) for data in told(stack, status.deployment_id)
    ]
    middle = events[len(events) // 2]
    rest_of_it = watch(rpc, begun.deployment_id, from_seq=middle.seq, from_claim=middle.claim)
    assert list(rest_of_it) == [event for event in events if event.seq > middle.seq]
    listed = rpc.call("ListDeployments", pb.ListDeploymentsRequest(model_id="second", status="completed", limit=1))
    path = f"{LOCAL}/deployments?model_id=second&status=completed&limit=1"
    assert listed == as_message(rest(stack, "GET", path), pb.ListDeploymentsResponse)
    assert listed.deployments[0].deployment_id == begun.deployment_id


def test_a_deployment_is_a_job(stack: Stack, rpc: Client) -> None:
    begun = rest(stack, "POST", DEPLOY, {"model_type": "second"})
    events = list(watch(rpc, begun["deployment_id"]))
    job_id = begun["deployment_id"]
    assert [event.deployment for event in rpc.call("WatchJob", pb.WatchJobRequest(job_id=job_id))] == events
    job = rpc.call("GetJob", pb.GetJobRequest(job_id=job_id))
    data = rest(stack, "GET", f"/jobs/{job_id}")
    result = as_message(data.pop("result"), pb.GetDeploymentStatusResponse)
    assert job == ParseDict(data, pb.Job(deployment=result))


def test_a_dry_run_says_the_same(stack: Stack, rpc: Client) -> None:
    request = pb.DeployLocalModelRequest(model_type="smollm2", model_size="135m", dry_run=True)
    eventually(lambda: rpc.call("DeployLocalModel", request).memory_plan["n1.cpu0"].fits, "the model is measured")
    with small_device(stack, "smollm2-135m") as node:
        request.target_nodes.append(node)
        body = {"model_type": "smollm2", "model_size": "135m", "dry_run": True, "target_nodes": [node]}
        both = [
            rpc.call("DeployLocalModel", request),
            as_message(rest(stack, "POST", DEPLOY, body), pb.DeployLocalModelResponse),
        ]
    for answer in both:
        assert not answer.deployment_id
        plan = answer.memory_plan["small.cpu0"]
        assert (answer.fits, plan.fits) == (False, False)
        assert answer.warnings
        assert answer.alternatives
        assert plan.free_bytes > 0
        assert plan.kv_cache_bytes < plan.kv_cache_full_bytes
    assert both[0] == both[1]


def test_a_failure_has_the_same_reason_remedy_and_log(stack: Stack, rpc: Client) -> None:
    begun = rpc.call("DeployLocalModel", pb.DeployLocalModelRequest(model_type="broken"))
    with pytest.raises(grpc.RpcError) as caught:
        list(watch(rpc, begun.deployment_id))
    status = ended(rpc, begun.deployment_id)
    assert status == as_message(rest(stack, "GET", begun.progress_url), pb.GetDeploymentStatusResponse)
    assert (status.status, status.error.reason) == ("failed", "BAD_QUANTIZATION")
    assert status.error.log
    found = details(caught.value)
    assert caught.value.details() == status.error.message
    assert found["ErrorInfo"].reason == status.error.reason
    assert found["ErrorInfo"].metadata["remedy"] == status.error.remedy
    assert list(found["DebugInfo"].stack_entries) == list(status.error.log)
    assert told(stack, begun.deployment_id)[-1]["message"] == status.error.message
    job = rpc.call("GetJob", pb.GetJobRequest(job_id=begun.deployment_id))
    assert job == ParseDict(rest(stack, "GET", f"/jobs/{begun.deployment_id}"), pb.Job())
    assert list(job.error.log) == list(status.error.log)


def test_one_that_rest_began_is_cancelled_over_grpc(stack: Stack, rpc: Client) -> None:
    begun = rest(stack, "POST", DEPLOY, {"model_type": "slow"})
    conflict = Case(
        "another at once",
        ("POST", DEPLOY, {"model_type": "slow"}),
        ("DeployLocalModel", pb.DeployLocalModelRequest(model_type="slow")),
    )
    error = compare_errors(stack, conflict)
    assert details(error)["ErrorInfo"].metadata["deployment_id"] == begun["deployment_id"]
    stream = watch(rpc, begun["deployment_id"])
    next(stream)
    (listed,) = rpc.call(
        "ListDeployments", pb.ListDeploymentsRequest(model_id="slow", status="in_progress")
    ).deployments
    assert listed.current_stage
    assert listed.HasField("progress")
    request = pb.CancelDeploymentRequest(deployment_id=begun["deployment_id"])
    assert rpc.call("CancelDeployment", request).status in ("cancelling", "cancelled")
    last = list(stream)[-1]
    assert (last.event, last.reason) == ("cancelled", "client_request")
    again = rpc.call("CancelDeployment", request)
    assert again == as_message(rest(stack, "DELETE", begun["progress_url"]), pb.CancelDeploymentResponse)
    assert again.status == "cancelled"


def test_a_model_is_scaled_and_unloaded_from_both_sides(stack: Stack, rpc: Client) -> None:
    ended(rpc, rpc.call("DeployLocalModel", pb.DeployLocalModelRequest(model_type="second")).deployment_id)
    scaled = rpc.call("ScaleLocalModel", pb.ScaleLocalModelRequest(model_id="second", replicas=2))
    assert ended(rpc, scaled.deployment_id).status == "completed"

    def resident() -> dict[str, Any]:
        listed = rpc.call("ListLocalModels", pb.ListLocalModelsRequest()).models
        return {model.id: model for model in listed}

    eventually(lambda: len(resident()["second"].replicas) == 2, "two replicas")
    scaled = rest(stack, "PATCH", f"{LOCAL}/second", {"replicas": 1})
    assert ended(rpc, scaled["deployment_id"]).status == "completed"
    eventually(lambda: len(resident()["second"].replicas) == 1, "one replica")
    gone = rpc.call("UnloadLocalModel", pb.UnloadLocalModelRequest(model_id="second"))
    assert (gone.model_id, gone.status, list(gone.nodes)) == ("second", "unloading", ["n1"])
    eventually(lambda: not resident().get("second"), "it is gone")


def test_a_restart_of_the_server_interrupts_no_deployment(stack: Stack, rpc: Client) -> None:
    settings = replace(stack.settings, grpc_port=free_port())
    start_rpc(stack, "rpc-other", settings)
    view = object.__new__(Stack)
    view.__dict__ = {**stack.__dict__, "settings": settings}
    begun = rpc.call("DeployLocalModel", pb.DeployLocalModelRequest(model_type="slow"))
    with client(view) as other:
        stream = watch(other, begun.deployment_id)
        seen = [next(stream)]
        stack.processes["rpc-other"].terminate()
        with pytest.raises(grpc.RpcError) as caught:
            seen.extend(stream)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert details(caught.value)["ErrorInfo"].reason == "restarting"
    stream = watch(rpc, begun.deployment_id, from_seq=seen[-1].seq, from_claim=seen[-1].claim)
    rpc.call("UnloadLocalModel", pb.UnloadLocalModelRequest(model_id="slow"))
    seen += stream
    assert [event.seq for event in seen] == sorted({event.seq for event in seen})
    assert seen[-1].event == "cancelled"


def refused(name: str, body: dict[str, Any], **fields: Any) -> Case:
    """A deployment that is refused."""
    message = pb.DeployLocalModelRequest(**fields)
    return Case(name, ("POST", DEPLOY, body), ("DeployLocalModel", message))


def config(**options: Any) -> dict[str, Any]:
    """The same options for both: REST's body has them as a dict, the message as one of its own."""
    return {"deployment_config": pb.DeploymentConfig(**options)}


SECOND = {"model_type": "second"}
NOBODY = "deploy-nobody"
ERRORS = [
    refused("no model", {}),
    refused("an unknown model", {"model_type": "x", "model_size": "7b"}, model_type="x", model_size="7b"),
    refused("a remote model", {"model_type": "gpt-4"}, model_type="gpt-4"),
    refused("an unknown node", {**SECOND, "target_nodes": ["n9"]}, **SECOND, target_nodes=["n9"]),
    refused("another quantization", {**SECOND, "quantization": "int3"}, **SECOND, quantization="int3"),
    refused(
        "an option that the engine lacks",
        {**SECOND, "deployment_config": {"tensor_parallel_size": 2, "cpu_offload": True}},
        **SECOND,
        **config(tensor_parallel_size=2, cpu_offload=True),
    ),
    refused(
        "two flaws",
        {**SECOND, "replicas": 0, "deployment_config": {"max_batch_size": 0}},
        **SECOND,
        replicas=0,
        **config(max_batch_size=0),
    ),
    refused(
        "a context that the model lacks",
        {**SECOND, "deployment_config": {"context_length": 5000}},
        **SECOND,
        **config(context_length=5000),
    ),
    Case(
        "scale what is not deployed",
        ("PATCH", f"{LOCAL}/second", {"replicas": 2}),
        ("ScaleLocalModel", pb.ScaleLocalModelRequest(model_id="second", replicas=2)),
    ),
    Case(
        "scale to nothing",
        ("PATCH", f"{LOCAL}/second", {"replicas": 0}),
        ("ScaleLocalModel", pb.ScaleLocalModelRequest(model_id="second")),
    ),
    Case(
        "unload what is not deployed",
        ("DELETE", f"{LOCAL}/second"),
        ("UnloadLocalModel", pb.UnloadLocalModelRequest(model_id="second")),
    ),
    Case(
        "an unknown deployment",
        ("GET", f"{LOCAL}/deployments/{NOBODY}"),
        ("GetDeploymentStatus", pb.GetDeploymentStatusRequest(deployment_id=NOBODY)),
    ),
    Case(
        "events of an unknown deployment",
        ("GET", f"{LOCAL}/deployments/{NOBODY}/events"),
        ("WatchDeployment", pb.WatchDeploymentRequest(deployment_id=NOBODY)),
    ),
    Case(
        "cancel an unknown deployment",
        ("DELETE", f"{LOCAL}/deployments/{NOBODY}"),
        ("CancelDeployment", pb.CancelDeploymentRequest(deployment_id=NOBODY)),
    ),
    Case(
        "deployments of a bad status",
        ("GET", f"{LOCAL}/deployments?status=x"),
        ("ListDeployments", pb.ListDeploymentsRequest(status="x")),
    ),
]


@pytest.mark.parametrize("case", ERRORS, ids=lambda case: case.name)
def test_both_faces_give_the_same_error(stack: Stack, case: Case) -> None:
    compare_errors(stack, case)


def test_a_key_without_the_scope_is_refused_by_both_faces(stack: Stack) -> None:
    _, secret = Credentials(stack.redis).create("asker", ["inference"])
    for case in (
        refused("deploy", SECOND, **SECOND),
        next(case for case in ERRORS if case.name == "scale what is not deployed"),
        next(case for case in ERRORS if case.name == "unload what is not deployed"),
        next(case for case in ERRORS if case.name == "an unknown deployment"),
        next(case for case in ERRORS if case.name == "events of an unknown deployment"),
        next(case for case in ERRORS if case.name == "cancel an unknown deployment"),
        Case("list", ("GET", f"{LOCAL}/deployments"), ("ListDeployments", pb.ListDeploymentsRequest())),
    ):
        assert compare_errors(stack, replace(case, key=secret)).code() is grpc.StatusCode.PERMISSION_DENIED
