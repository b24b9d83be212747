"""Metrics for Prometheus."""

from __future__ import annotations

from flask import Response, request
from flask_smorest import Blueprint

from gateway.errors import NotFound
from gateway.metrics.exposition import exposition
from web.http.auth import authenticate
from web.http.envelope import caller, gateway

blueprint = Blueprint("metrics", __name__, url_prefix="/metrics", description="What Prometheus scrapes")


@blueprint.route("")
@blueprint.response(200, {"type": "string"}, content_type="text/plain")
def metrics() -> Response:
    """All metrics, as text. Scope metrics, unless `HEADRACE_METRICS` says that anyone may read them."""
    who = gateway().settings.metrics
    if who == "off":
        raise NotFound("There are no metrics here: HEADRACE_METRICS is off.")
    if who != "anyone":
        authenticate()
        caller().require("metrics")
    text, content_type = exposition(gateway(), request.headers.get("Accept", ""))
    return Response(text, content_type=content_type)
