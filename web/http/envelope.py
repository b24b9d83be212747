"""Responses in the dialect of their request, and access to the request's gateway and key."""

from __future__ import annotations

import math
from typing import Any, cast

import orjson
from flask import Response, current_app, g, request

from gateway.access.api_keys import KeyRecord
from gateway.context import Gateway
from gateway.errors import HeadraceError
from gateway.metrics.error_replies import ErrorReplies
from web.http.dialect import Dialect

#: In the environment of a request that another one makes for its client: both have one place among the open ones, and
#: only that one is logged and counted.
WITHIN = "headrace.within"


def gateway() -> Gateway:
    """The domain layer of this application."""
    return cast(Gateway, current_app.extensions["headrace"])


def caller() -> KeyRecord:
    """The key that this request was sent with."""
    return cast(KeyRecord, g.key)


def dialect() -> Dialect:
    """The dialect of this request's client."""
    return cast(Dialect, g.dialect)


def success(data: Any, *, status: int = 200, message: str = "success") -> Response:
    """A result."""
    return _json(status, dialect().answer(data, status=status, message=message))


def failure(error: HeadraceError) -> Response:
    """An error, and when to try again."""
    if WITHIN not in request.environ:
        cast(ErrorReplies, current_app.extensions["headrace.error_replies"]).count(error)
    response = _json(*dialect().error(error))
    response.headers.update(error.headers)
    if error.retry_after_s is not None:
        response.headers["Retry-After"] = str(math.ceil(error.retry_after_s))
    return response


def _json(status: int, body: Any) -> Response:
    text = orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)  # vectors are numpy rows
    return Response(text, status=status, mimetype="application/json")
