"""How many jobs wait for each model, and for how long."""

from __future__ import annotations

from flask import Response
from flask_smorest import Blueprint

from gateway.views.backlog import queues
from schemas.cluster.backlog import QueueListSchema, QueueQuerySchema
from schemas.envelope import enveloped
from web.http.auth import authenticate
from web.http.body_parser import StrictParser
from web.http.envelope import caller, gateway, success

blueprint = Blueprint("queue", __name__, url_prefix="/queue", description="Who waits for which model")
blueprint.ARGUMENTS_PARSER = StrictParser()
blueprint.before_request(authenticate)


@blueprint.route("")
@blueprint.arguments(QueueQuerySchema, location="query")
@blueprint.response(200, enveloped(QueueListSchema))
def queue(query: dict[str, str | None]) -> Response:
    """How many jobs wait for each model, for how long the first has waited, and what serves them. Scope deploy."""
    caller().require("deploy")
    return success({"models": queues(gateway().inference, query["model"])})
