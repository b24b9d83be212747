"""Models on our own devices: deploy, watch, scale, cancel and unload them."""

from __future__ import annotations

from schemas.deployments import DeploymentListQuerySchema, DeployRequest, DeployRequestSchema, ScaleRequestSchema
from web.rpc.answers import planned
from web.rpc.call import Call
from web.rpc.chunks import message_chunks
from web.rpc.messages import build, to_dict
from web.rpc.stream import Stream, watch
from web.rpc.stubs import model_pb2 as pb


def deploy_local_model(call: Call, request: pb.DeployLocalModelRequest) -> pb.DeployLocalModelResponse:
    """Bring a model onto devices, or say what it would take."""
    body: DeployRequest = DeployRequestSchema().load(to_dict(request))
    return planned(pb.DeployLocalModelResponse, call.gateway.deployments.deploy(body, key=call.key))


def scale_local_model(call: Call, request: pb.ScaleLocalModelRequest) -> pb.DeployLocalModelResponse:
    """Give a deployed model another number of replicas."""
    body = ScaleRequestSchema().load({"replicas": request.replicas})
    answer = call.gateway.deployments.scale(request.model_id, body["replicas"], key=call.key)
    return planned(pb.DeployLocalModelResponse, answer)


def unload_local_model(call: Call, request: pb.UnloadLocalModelRequest) -> pb.UnloadLocalModelResponse:
    """Take a model off all devices."""
    return build(pb.UnloadLocalModelResponse, call.gateway.deployments.unload(request.model_id, key=call.key))


def get_deployment_status(call: Call, request: pb.GetDeploymentStatusRequest) -> pb.GetDeploymentStatusResponse:
    """How a deployment stands."""
    status = call.gateway.deployments.status(request.deployment_id, key=call.key)
    return planned(pb.GetDeploymentStatusResponse, status)


def list_deployments(call: Call, request: pb.ListDeploymentsRequest) -> pb.ListDeploymentsResponse:
    """Deployments, newest first."""
    query = DeploymentListQuerySchema().load(to_dict(request))
    found = call.gateway.deployments.list(key=call.key, **query)
    return build(pb.ListDeploymentsResponse, {"deployments": found})


def cancel_deployment(call: Call, request: pb.CancelDeploymentRequest) -> pb.CancelDeploymentResponse:
    """Stop a deployment; what it did is undone."""
    return build(pb.CancelDeploymentResponse, call.gateway.deployments.cancel(request.deployment_id, key=call.key))


def watch_deployment(call: Call, request: pb.WatchDeploymentRequest) -> Stream:
    """What happens, from the start or from behind a cursor, and the error that the deployment ended with."""
    job = call.gateway.deployments.get(request.deployment_id, key=call.key)
    return Stream(watch(call, job, request), message_chunks(job).encode)
