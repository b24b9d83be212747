"""What has happened in the last hour."""

from __future__ import annotations

from flask import Response
from flask_smorest import Blueprint

from gateway.metrics.last_hour import last_hour
from schemas.cluster.history import HistorySchema
from schemas.envelope import enveloped
from web.http.auth import authenticate
from web.http.envelope import caller, gateway, success

blueprint = Blueprint("history", __name__, url_prefix="/history", description="What has happened in the last hour")
blueprint.before_request(authenticate)


@blueprint.route("")
@blueprint.response(200, enveloped(HistorySchema))
def history() -> Response:
    """The last hour in points of half a minute, and its ends, failures, error replies and calls to providers. Scope
    deploy.
    """
    caller().require("deploy")
    return success(last_hour(gateway().redis))
