"""The customer's envelope `{code, message, data, request_id}`, and where a request finds its gateway and its key."""

from __future__ import annotations

from typing import Any, cast

from flask import Response, current_app, g

from gateway.context import Gateway
from gateway.credentials import KeyRecord
from gateway.errors import HeadraceError
from gateway.redis import dumps


def gateway() -> Gateway:
    """The domain layer of this application."""
    return cast(Gateway, current_app.extensions["headrace"])


def caller() -> KeyRecord:
    """The key that this request was sent with."""
    return cast(KeyRecord, g.key)


def success(data: Any, *, status: int = 200, message: str = "success") -> Response:
    """A result in the envelope."""
    return _render(status, message, data)


def failure(error: HeadraceError) -> Response:
    """An error in the envelope: its text is the message, `data` says which fields are wrong."""
    response = _render(error.http_status, error.message, failure_data(error))
    if error.retry_after_s is not None:
        response.headers["Retry-After"] = str(round(error.retry_after_s))
    return response


def failure_data(error: HeadraceError) -> dict[str, Any]:
    """What a program may want to know of an error."""
    return {"reason": error.reason, **({"errors": error.errors} if error.errors else {}), **error.details}


def failure_body(error: HeadraceError, request_id: str) -> str:
    """The envelope of an error as JSON, for use inside a stream."""
    body = {"code": error.http_status, "message": error.message, "data": failure_data(error)}
    return dumps({**body, "request_id": request_id})


def _render(status: int, message: str, data: Any) -> Response:
    body = dumps({"code": status, "message": message, "data": data, "request_id": g.request_id})
    return Response(body, status=status, mimetype="application/json")
