"""The root: whoever looks there learns what this is, a person in a browser from the documentation. No key needed."""

from __future__ import annotations

from flask import Response, request
from flask_smorest import Blueprint

from schemas.envelope import enveloped
from schemas.health import RootSchema
from web.http.envelope import success
from web.rest.docs import VERSION

blueprint = Blueprint("root", __name__, description="What this is")


@blueprint.route("/")
@blueprint.response(200, enveloped(RootSchema))
@blueprint.alt_response(302, description="For a browser: the documentation")
def root() -> Response:
    """What this is, and where to go on. A browser is sent to the documentation."""
    at = request.script_root
    if request.accept_mimetypes.best_match(["application/json", "text/html"]) == "text/html":
        response = Response(status=302, headers={"Location": f"{at}/docs/"})
    else:
        paths = {"docs": "/docs/", "openapi": "/openapi.json", "openai": "/v1", "ready": "/health/ready"}
        links = {name: at + path for name, path in paths.items()}
        response = success({"name": "Headrace", "version": VERSION, **links})
    response.headers.add("Vary", "Accept")
    return response
