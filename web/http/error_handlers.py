"""The one place where exceptions become HTTP answers."""

from __future__ import annotations

from flask import Flask, Response, current_app, g, request
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge
from werkzeug.http import HTTP_STATUS_CODES

from gateway.errors import BadRequest, BodyTooLarge, HeadraceError, NotFound
from web.client_errors import client_error
from web.http import submission
from web.http.envelope import failure


def register(app: Flask) -> None:
    """Install the handlers."""
    app.register_error_handler(HeadraceError, _known)
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(Exception, _other)


def _known(error: HeadraceError) -> Response:
    return failure(submission.refused(error))


def _http(error: HTTPException) -> Response:
    if isinstance(error, RequestEntityTooLarge):
        limit = request.max_content_length or 0
        return failure(BodyTooLarge(f"The body is larger than {limit} bytes, which is the limit."))
    status, path = error.code or 500, f"{request.script_root}{request.path}"
    if status == 404:
        return failure(NotFound(f"There is nothing at {path}. {_hint()}"))
    if status == 405:
        allowed = ", ".join(sorted(set(getattr(error, "valid_methods", None) or ()) - {"OPTIONS", "HEAD"}))
        found = BadRequest(f"{request.method} is not allowed at {path}; allowed: {allowed}.")
    else:
        found = BadRequest(error.description or HTTP_STATUS_CODES.get(status, "error"))
    found.http_status, found.reason = status, HTTP_STATUS_CODES.get(status, "error").lower().replace(" ", "_")
    response = failure(found)
    if status == 405:
        response.headers["Allow"] = allowed
    return response


def _hint() -> str:
    """What a client may have meant."""
    root = request.script_root
    if request.path.startswith("/v1/v1/"):
        return f"The base URL of an OpenAI client ends with {root}/v1 once."
    adapter = current_app.create_url_adapter(request)
    if adapter is not None and adapter.test(f"/v1{request.path}", method=request.method):
        return f"Did you mean {root}/v1{request.path}? The base URL of an OpenAI client ends with {root}/v1."
    return f"See {root}/docs for what there is."


def _other(error: Exception) -> Response:
    known = client_error(error, f"{request.method} {request.path} (request {g.request_id})")
    return failure(submission.refused(known))
