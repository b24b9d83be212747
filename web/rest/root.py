"""The root: whoever looks there learns what this is. No key needed."""

from __future__ import annotations

from flask import Response
from flask_smorest import Blueprint

from schemas.envelope import enveloped
from schemas.health import RootSchema
from web.http.envelope import success

blueprint = Blueprint("root", __name__, description="What this is")


@blueprint.route("/")
@blueprint.response(200, enveloped(RootSchema))
def root() -> Response:
    """What this is, and where to go on."""
    return success(
        {"name": "Headrace", "docs": "/docs", "openapi": "/openapi.json", "openai": "/v1", "ready": "/health/ready"}
    )
