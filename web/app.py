"""The Flask application. `create_app` wires blueprints, errors, documentation and request ids."""

from __future__ import annotations

from flask import Flask, Response, g, request
from flask_smorest import Api

from gateway.access.shares import Shares
from gateway.context import Gateway
from gateway.store.codec import dumps
from schemas.answers import ChatChunkSchema, CompletionChunkSchema, DeploymentEventSchema, EmbeddingProgressSchema
from schemas.envelope import ErrorSchema, enveloped
from schemas.jobs import JobAcceptedSchema
from schemas.lenient.openai import OpenAIErrorSchema
from web.http import auth, cors, submission
from web.http import error_handlers as errors
from web.http.api_document import complete
from web.http.dialect import Plain
from web.http.model_ids import ModelIdConverter, path_parameter
from web.http.paths import below_root, without_last_slash
from web.pages import dashboard, docs, root
from web.request_ids import request_id
from web.rest import (
    backlog,
    deployments,
    health,
    inference,
    jobs,
    join_tokens,
    keys,
    metrics,
    models,
    nodes,
    openai,
    usage,
)

#: Schemas that no view names: `web/http/api_document.py` does.
UNREFERENCED = (
    *(OpenAIErrorSchema, JobAcceptedSchema, enveloped(JobAcceptedSchema)),
    *(ChatChunkSchema, CompletionChunkSchema, EmbeddingProgressSchema, DeploymentEventSchema),
)


def create_app(gateway: Gateway) -> Flask:
    """An application over a connected gateway."""
    app = Flask("headrace", static_folder=None)
    app.extensions["headrace"] = gateway
    app.extensions["headrace.alive"] = lambda: True
    app.extensions["headrace.shares"] = Shares(gateway.settings.key_max_streams)
    app.config.update(
        MAX_CONTENT_LENGTH=gateway.settings.max_body_bytes,
        API_TITLE="Headrace",
        API_VERSION=docs.VERSION,
        OPENAPI_VERSION="3.1.0",
        OPENAPI_URL_PREFIX="/",
        OPENAPI_JSON_PATH="openapi.json",
    )
    app.before_request(_begin)
    app.after_request(_finish)
    app.url_map.converters["model"] = ModelIdConverter
    api = QuietApi(app)
    api.register_converter(ModelIdConverter, path_parameter)
    api.spec.components.security_scheme("key", {"type": "http", "scheme": "bearer"})
    api.spec.options["security"] = [{"key": []}]
    api.spec.options["info"] = {"description": docs.INTRODUCTION}
    if gateway.settings.root_path:
        api.spec.options["servers"] = [{"url": gateway.settings.root_path}]
    for schema in UNREFERENCED:
        api.spec.components.schema(schema.__name__.removesuffix("Schema"), schema=schema)
    served = (
        models,
        deployments,
        inference,
        jobs,
        join_tokens,
        keys,
        nodes,
        backlog,
        usage,
        openai,
        health,
        root,
        metrics,
    )
    for part in served:
        api.register_blueprint(part.blueprint)
    app.register_blueprint(docs.blueprint)
    app.register_blueprint(dashboard.blueprint)
    app.wsgi_app = without_last_slash(app.wsgi_app)  # type: ignore[assignment, method-assign]
    if gateway.settings.root_path:
        app.wsgi_app = below_root(app.wsgi_app, gateway.settings.root_path)  # type: ignore[assignment, method-assign]
    return app


class QuietApi(Api):  # type: ignore[misc]
    """flask-smorest with our errors in place of its own."""

    ERROR_SCHEMA = ErrorSchema

    def _register_error_handlers(self) -> None:
        errors.register(self._app)

    def _openapi_json(self) -> Response:
        """The document, with what holds for every operation."""
        if not hasattr(self, "_document"):
            self._document = dumps(complete(self.spec.to_dict()))
        return Response(self._document, mimetype="application/json")


def _begin() -> Response | None:
    g.request_id = request_id(request.headers.get("X-Request-Id", ""))
    g.dialect = Plain(g.request_id)
    return cors.preflight()


def _finish(response: Response) -> Response:
    response.headers["X-Request-Id"] = g.request_id
    submission.add_headers(response)
    cors.add_headers(response)
    auth.give_back(response)
    return response
