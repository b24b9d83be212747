"""Is the process up, and can it serve? No key needed."""

from __future__ import annotations

from dataclasses import asdict

from flask import Response
from flask_smorest import Blueprint

from gateway.readiness import check
from schemas.envelope import enveloped
from schemas.health import LiveSchema, ReadyQuerySchema, ReadySchema
from web.http.body_parser import StrictParser
from web.http.envelope import gateway, success

blueprint = Blueprint("health", __name__, url_prefix="/health", description="Liveness and readiness")
blueprint.ARGUMENTS_PARSER = StrictParser()


@blueprint.route("/live")
@blueprint.response(200, enveloped(LiveSchema))
def live() -> Response:
    """The process answers."""
    return success({"status": "healthy"})


@blueprint.route("/ready")
@blueprint.arguments(ReadyQuerySchema, location="query")
@blueprint.response(200, enveloped(ReadySchema))
@blueprint.alt_response(503, schema=enveloped(ReadySchema))
def ready(query: dict[str, str]) -> Response:
    """Redis answers and a keeper holds its lease; with `?model=`, that model or a fallback of it takes requests, too.

    503 says what is missing. `catalog_problems` says where the catalog has mistakes; `headrace check` says which.
    """
    found = check(gateway())
    data, is_ready = asdict(found), found.ready
    if is_ready and "model" in query:
        router, model = gateway().inference.router, gateway().catalog.get(query["model"])
        data["model"] = router.status(model)
        is_ready = router.takes(model)
    if is_ready:
        return success({"status": "healthy", **data})
    return success({"status": "unhealthy", **data}, status=503, message="not ready")
