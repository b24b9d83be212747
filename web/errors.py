"""The one place where exceptions become HTTP answers."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import redis
from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge
from werkzeug.http import HTTP_STATUS_CODES

from gateway.errors import BadRequest, BodyTooLarge, HeadraceError, InvalidRequest, NotFound, StoreUnavailable
from schemas.fields import leaves
from web.envelope import failure

log = logging.getLogger(__name__)


def register(app: Flask) -> None:
    """Install the handlers."""
    app.register_error_handler(HeadraceError, failure)
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(redis.exceptions.RedisError, _redis)
    app.register_error_handler(RecursionError, _too_deep)
    app.register_error_handler(Exception, _unexpected)


def invalid(messages: Mapping[str, Any]) -> InvalidRequest:
    """The error for what a schema found, with each field's path."""
    return InvalidRequest.of(flatten(messages))


def flatten(messages: Mapping[str, Any]) -> dict[str, list[str]]:
    """marshmallow's nested messages as `messages[0].role` -> texts."""
    found: dict[str, list[str]] = {}
    for path, texts in leaves(messages):
        name = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
        found.setdefault(name.removeprefix(".") or "body", []).extend(texts)
    return found


def _http(error: HTTPException) -> Response:
    if isinstance(error, RequestEntityTooLarge):
        limit = request.max_content_length or 0
        return failure(BodyTooLarge(f"The body is larger than {limit} bytes, which is the limit."))
    status = error.code or 500
    if status == 404:
        return failure(NotFound(f"There is nothing at {request.path}. See /docs for what there is."))
    if status == 405:
        allowed = ", ".join(sorted(set(getattr(error, "valid_methods", None) or ()) - {"OPTIONS", "HEAD"}))
        found = BadRequest(f"{request.method} is not allowed at {request.path}; allowed: {allowed}.")
    else:
        found = BadRequest(error.description or HTTP_STATUS_CODES.get(status, "error"))
    found.http_status, found.reason = status, HTTP_STATUS_CODES.get(status, "error").lower().replace(" ", "_")
    response = failure(found)
    if status == 405:
        response.headers["Allow"] = allowed
    return response


def _too_deep(error: RecursionError) -> Response:
    log.warning("too deep at %s %s: %s", request.method, request.path, error)
    return failure(BadRequest("The body is nested too deeply.", reason="invalid_json"))


def _redis(error: redis.exceptions.RedisError) -> Response:
    log.error("Redis: %s", error)
    return failure(StoreUnavailable("The job store does not answer. Nothing was lost; try again.", retry_after_s=2))


def _unexpected(error: Exception) -> Response:
    log.exception("unexpected error at %s %s", request.method, request.path)
    return failure(HeadraceError("Something went wrong on our side; the log has the details under this request_id."))
