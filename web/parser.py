"""Reads request bodies and queries with a schema: every flaw becomes one clear error."""

from __future__ import annotations

from typing import Any, NoReturn

import orjson
from flask import Request
from marshmallow import Schema, ValidationError
from webargs.flaskparser import FlaskParser

from gateway.errors import BadRequest
from web.failures import invalid


class StrictParser(FlaskParser):
    """Takes a JSON body whatever its content type is, and refuses what the schema does not know."""

    DEFAULT_UNKNOWN_BY_LOCATION = {**FlaskParser.DEFAULT_UNKNOWN_BY_LOCATION, "json": None, "query": None}

    def load_json(self, req: Request, schema: Schema) -> Any:
        """The body. Raises: BadRequest, saying where it is broken."""
        raw = req.get_data(cache=True)
        if not raw:
            raise BadRequest("The body is empty; send a JSON object.", reason="invalid_json")
        try:
            body = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raise BadRequest(f"The body is not valid JSON: {error}.", reason="invalid_json") from error
        if not isinstance(body, dict):
            raise BadRequest(f"The body is a JSON {type(body).__name__}; send a JSON object.", reason="invalid_json")
        return body

    def handle_error(self, error: ValidationError, req: Any, schema: Any, **_: Any) -> NoReturn:
        """Raises: InvalidRequest."""
        messages: Any = error.messages
        raise invalid(next(iter(messages.values())) if isinstance(messages, dict) else {"body": messages}) from error
