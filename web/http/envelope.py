"""The customer's envelope `{code, message, data, request_id}`, and where a request finds its gateway and its key."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import orjson
from flask import Response, current_app, g

from gateway.access.api_keys import KeyRecord
from gateway.context import Gateway
from gateway.errors import HeadraceError
from gateway.store.codec import dumps
from web.http import openai


def gateway() -> Gateway:
    """The domain layer of this application."""
    return cast(Gateway, current_app.extensions["headrace"])


def caller() -> KeyRecord:
    """The key that this request was sent with."""
    return cast(KeyRecord, g.key)


def success(data: Any, *, status: int = 200, message: str = "success") -> Response:
    """A result: in the envelope, or below `/v1` as it is."""
    if openai.on_v1():
        return _json(status, data)
    return _json(status, {"code": status, "message": message, "data": data, "request_id": g.request_id})


def failure(error: HeadraceError) -> Response:
    """An error: its text is the message, `data` says which fields are wrong."""
    if openai.on_v1():
        response = _json(openai.status(error), openai.error_body(error))
    else:
        response = _json(error.http_status, failure_body(error, g.request_id))
    response.headers.update(error.headers)
    if error.retry_after_s is not None:
        response.headers["Retry-After"] = str(math.ceil(error.retry_after_s))
    return response


def failure_frames() -> Callable[[HeadraceError], str]:
    """Writes errors inside this request's stream, when the request itself is no longer at hand."""
    if openai.on_v1():
        return lambda error: f"data: {dumps(openai.error_body(error))}\n\n"
    request_id = g.request_id
    return lambda error: f"event: error\ndata: {dumps(failure_body(error, request_id))}\n\n"


def failure_data(error: HeadraceError) -> dict[str, Any]:
    """What a program may want to know of an error."""
    return {"reason": error.reason, **({"errors": error.errors} if error.errors else {}), **error.details}


def failure_body(error: HeadraceError, request_id: str) -> dict[str, Any]:
    """An error in the envelope."""
    body = {"code": error.http_status, "message": error.message, "data": failure_data(error)}
    return {**body, "request_id": request_id}


def _json(status: int, body: Any) -> Response:
    text = orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)  # vectors are numpy rows
    return Response(text, status=status, mimetype="application/json")
