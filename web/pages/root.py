"""The root: a person in a browser finds the dashboard, a program learns what this is. No key needed."""

from __future__ import annotations

from flask import Response, request
from flask_smorest import Blueprint

from schemas.envelope import enveloped
from schemas.health import RootSchema
from web.http.envelope import success
from web.pages import dashboard
from web.pages.docs import VERSION

blueprint = Blueprint("root", __name__, description="What this is")


@blueprint.route("/")
@blueprint.response(200, enveloped(RootSchema))
def root() -> Response:
    """What this is, and where to go on. A browser gets the dashboard."""
    if request.accept_mimetypes.best_match(["application/json", "text/html"]) == "text/html":
        response = dashboard.page()
    else:
        paths = {"docs": "/docs/", "openapi": "/openapi.json", "openai": "/v1", "ready": "/health/ready"}
        links = {name: request.script_root + path for name, path in paths.items()}
        response = success({"name": "Headrace", "version": VERSION, **links})
    response.headers.add("Vary", "Accept")
    return response
