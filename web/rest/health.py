"""Is the process up, and can it serve? No key needed."""

from __future__ import annotations

from dataclasses import asdict

from flask import Response
from flask_smorest import Blueprint

from gateway.readiness import check
from schemas.envelope import enveloped
from schemas.health import LiveSchema, ReadySchema
from web.http.envelope import gateway, success

blueprint = Blueprint("health", __name__, url_prefix="/health", description="Liveness and readiness")


@blueprint.route("/live")
@blueprint.response(200, enveloped(LiveSchema))
def live() -> Response:
    """The process answers."""
    return success({"status": "healthy"})


@blueprint.route("/ready")
@blueprint.response(200, enveloped(ReadySchema))
@blueprint.alt_response(503, schema=enveloped(ReadySchema))
def ready() -> Response:
    """Redis answers, a keeper holds its lease, and a replica or a provider is healthy, or asleep until it is asked.

    503 says what is missing. `catalog` is `stale` while headrace.toml has a mistake; the logs say which.
    """
    found = check(gateway())
    if found.ready:
        return success({"status": "healthy", **asdict(found)})
    return success({"status": "unhealthy", **asdict(found)}, status=503, message="not ready")
