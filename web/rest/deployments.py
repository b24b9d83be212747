"""Models on our own devices: deploy, watch, scale, cancel and unload them."""

from __future__ import annotations

from typing import Any

from flask import Response, request
from flask_smorest import Blueprint

from gateway.views.local_models import local_models
from schemas.deployments import (
    CancelledDeploymentSchema,
    DeployAnswerSchema,
    DeploymentDetailSchema,
    DeploymentListQuerySchema,
    DeploymentListSchema,
    DeployRequest,
    DeployRequestSchema,
    ScaleRequestSchema,
    UnloadedSchema,
)
from schemas.envelope import enveloped
from schemas.examples import DEPLOY, SCALE
from schemas.models import LocalModelListSchema
from web.http.auth import authenticate
from web.http.body_parser import StrictParser
from web.http.envelope import caller, gateway, success
from web.rest.inference import event_stream
from web.rest.jobs import cursor

blueprint = Blueprint("local models", __name__, url_prefix="/models/local", description="Models on our own devices")
blueprint.ARGUMENTS_PARSER = StrictParser()
blueprint.before_request(authenticate)


@blueprint.route("")
@blueprint.response(200, enveloped(LocalModelListSchema))
def local() -> Response:
    """The models that are resident on the devices of this gateway."""
    return success({"models": local_models(gateway().inference, caller())})


@blueprint.route("/deploy", methods=["POST"])
@blueprint.arguments(DeployRequestSchema(), examples=DEPLOY)
@blueprint.response(200, enveloped(DeployAnswerSchema))
def deploy(body: DeployRequest) -> Response:
    """Bring a model onto devices. Replicas that it has serve until the new ones do. Scope deploy."""
    return success(gateway().deployments.deploy(body, key=caller()))


@blueprint.route("/deployments")
@blueprint.arguments(DeploymentListQuerySchema, location="query")
@blueprint.response(200, enveloped(DeploymentListSchema))
def deployments(query: dict[str, Any]) -> Response:
    """All deployments, newest first. Scope deploy."""
    return success({"deployments": gateway().deployments.list(key=caller(), **query)})


@blueprint.route("/deployments/<deployment_id>")
@blueprint.response(200, enveloped(DeploymentDetailSchema))
def deployment(deployment_id: str) -> Response:
    """How a deployment stands: its stages, log lines, and when it will be done. Scope deploy."""
    return success(gateway().deployments.status(deployment_id, key=caller()))


@blueprint.route("/deployments/<deployment_id>/events")
@blueprint.response(200, content_type="text/event-stream")
def events(deployment_id: str) -> Response:
    """The same as it happens, from the start or from behind `Last-Event-ID`. Scope deploy."""
    seq, claim = cursor(request.headers.get("Last-Event-ID", ""))
    found = gateway().deployments.get(deployment_id, key=caller())
    return event_stream(found, gateway().hub.watch(found.id, after=seq, claim=claim))


@blueprint.route("/deployments/<deployment_id>", methods=["DELETE"])
@blueprint.response(200, enveloped(CancelledDeploymentSchema))
def cancel(deployment_id: str) -> Response:
    """Cancel a deployment; what it did is undone. Once more does no harm. Scope deploy."""
    return success(gateway().deployments.cancel(deployment_id, key=caller()))


@blueprint.route("/<model:model_id>", methods=["PATCH"])
@blueprint.arguments(ScaleRequestSchema(), examples=SCALE)
@blueprint.response(200, enveloped(DeployAnswerSchema))
def scale(body: dict[str, Any], model_id: str) -> Response:
    """Give a deployed model another number of replicas. Scope deploy."""
    return success(gateway().deployments.scale(model_id, body["replicas"], key=caller()))


@blueprint.route("/<model:model_id>", methods=["DELETE"])
@blueprint.response(200, enveloped(UnloadedSchema))
def unload(model_id: str) -> Response:
    """Take a model off all devices. Its running requests end first. Scope deploy."""
    return success(gateway().deployments.unload(model_id, key=caller()))
