"""The Flask application. `create_app` wires blueprints, errors, documentation and request ids."""

from __future__ import annotations

import logging
import time
from functools import partial

from flask import Flask, Response, current_app, g, request
from flask_smorest import Api

from gateway.access.shares import Shares
from gateway.context import Gateway
from gateway.metrics.error_replies import ErrorReplies
from gateway.process import log_context, trace_context
from gateway.store.codec import dumps
from gateway.tracing.spans import RequestSpan, Tracer
from schemas.answers import ChatChunkSchema, CompletionChunkSchema, DeploymentEventSchema, EmbeddingProgressSchema
from schemas.envelope import ErrorSchema, enveloped
from schemas.jobs import JobAcceptedSchema
from schemas.lenient.openai import OpenAIErrorSchema
from web.http import auth, cors, submission
from web.http import error_handlers as errors
from web.http.api_document import complete
from web.http.dialect import Plain
from web.http.envelope import WITHIN
from web.http.model_ids import ModelIdConverter, path_parameter
from web.http.paths import below_root, without_last_slash
from web.pages import dashboard, docs, root, watch
from web.request_ids import request_id
from web.rest import (
    audit,
    backlog,
    deployments,
    health,
    history,
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

log = logging.getLogger(__name__)

#: Methods of requests that change nothing.
LOOKING = ("GET", "HEAD", "OPTIONS")
#: Schemas that no view names: `web/http/api_document.py` does.
UNREFERENCED = (
    *(OpenAIErrorSchema, JobAcceptedSchema, enveloped(JobAcceptedSchema)),
    *(ChatChunkSchema, CompletionChunkSchema, EmbeddingProgressSchema, DeploymentEventSchema),
)


def create_app(gateway: Gateway, tracer: Tracer | None = None) -> Flask:
    """An application over a connected gateway. `tracer`: of the spans of its requests, if there are any."""
    app = Flask("headrace", static_folder=None)
    app.extensions["headrace"] = gateway
    app.extensions["headrace.alive"] = lambda: True
    app.extensions["headrace.error_replies"] = ErrorReplies(gateway.redis, "http")
    app.extensions["headrace.tracer"] = tracer
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
        audit,
        nodes,
        backlog,
        history,
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
    app.register_blueprint(watch.blueprint)
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
    g.began, g.request_id = time.monotonic(), request_id(request.headers.get("X-Request-Id", ""))
    log_context.begin(request_id=g.request_id)
    g.span = _begin_span(current_app.extensions["headrace.tracer"])
    g.dialect = Plain(g.request_id)
    return cors.preflight()


def _finish(response: Response) -> Response:
    response.headers["X-Request-Id"] = g.request_id
    submission.add_headers(response)
    cors.add_headers(response)
    auth.give_back(response)
    quiet = WITHIN in request.environ or (request.method in LOOKING and response.status_code < 500)
    level = logging.DEBUG if quiet else logging.INFO
    response.call_on_close(partial(_end, g.span, g.began, request.method, request.path, response.status_code, level))
    return response


def _begin_span(tracer: Tracer | None) -> RequestSpan | None:
    """The span of this request. One that only looks has none, unless its client traces it."""
    if tracer is None or (request.method in LOOKING and "traceparent" not in request.headers):
        return None
    route = request.url_rule.rule if request.url_rule else None
    attributes = {
        "http.request.method": request.method,
        "http.route": route,
        "url.scheme": request.scheme,
        "url.path": request.path[:300],
        "server.address": request.environ.get("SERVER_NAME"),
        "server.port": int(request.environ.get("SERVER_PORT") or 0) or None,
    }
    headers = {name: request.headers.get(name, "") for name in ("traceparent", "tracestate")}
    return tracer.begin(f"{request.method} {route or ''}".rstrip(), headers, attributes)


def _end(span: RequestSpan | None, began: float, method: str, path: str, status: int, level: int) -> None:
    """When the response has been sent, or its client has left: its line, for the level `debug` if it only looked."""
    log.log(level, "%s %.300s: %d, after %.0f ms", method, path, status, 1000 * (time.monotonic() - began))
    if span is not None:
        span.end({"http.response.status_code": status}, error=str(status) if status >= 500 else "")
    log_context.clear()
    trace_context.begin(trace_context.NONE)
