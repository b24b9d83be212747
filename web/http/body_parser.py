"""Reads request bodies and queries with a schema: every flaw becomes one clear error."""

from __future__ import annotations

import codecs
from typing import Any, NoReturn

import orjson
from flask import Request
from marshmallow import Schema, ValidationError
from webargs.flaskparser import FlaskParser

from gateway.errors import BadRequest, BodyTooLarge, UnsupportedEncoding
from schemas.base.bounds import require_bounded
from web.client_errors import client_error, invalid
from web.http.envelope import gateway


class StrictParser(FlaskParser):
    """Accepts a JSON body with any content type, and refuses unknown fields."""

    DEFAULT_UNKNOWN_BY_LOCATION = {**FlaskParser.DEFAULT_UNKNOWN_BY_LOCATION, "json": None, "query": None}

    def load_json(self, req: Request, schema: Schema) -> Any:
        """Raises: BadRequest, saying where the body is broken; BodyTooLarge, UnsupportedEncoding, InvalidRequest."""
        raw = read_body(req).removeprefix(codecs.BOM_UTF8)
        if not raw:
            raise BadRequest("The body is empty; send a JSON object.", reason="invalid_json")
        try:
            body = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raise BadRequest(f"The body is not valid JSON: {_flaw(raw) or error}.", reason="invalid_json") from error
        if not isinstance(body, dict):
            raise BadRequest(f"The body is a JSON {type(body).__name__}; send a JSON object.", reason="invalid_json")
        try:
            require_bounded(body, gateway().settings.max_body_values)
        except ValidationError as error:
            raise client_error(error, "") from error
        return body

    def handle_error(self, error: ValidationError, req: Any, schema: Any, **_: Any) -> NoReturn:
        """Raises: InvalidRequest."""
        messages: Any = error.messages
        raise invalid(next(iter(messages.values())) if isinstance(messages, dict) else {"body": messages}) from error


def read_body(req: Request) -> bytes:
    """The whole body. Raises: BadRequest, BodyTooLarge, UnsupportedEncoding."""
    encoding = req.headers.get("Content-Encoding", "identity").strip().lower() or "identity"
    if encoding != "identity":
        raise UnsupportedEncoding(f"The body's Content-Encoding is {encoding[:40]!r}; send it uncompressed (identity).")
    length, most = req.content_length, req.max_content_length or 0
    if length is not None and length > most:
        raise BodyTooLarge(f"The body has {length} bytes; the limit is {most} bytes.")
    try:
        raw: bytes = req.environ["wsgi.input"].read(most + 1 if length is None else length)
    except TimeoutError as error:
        raise BadRequest("The body took too long to arrive.", reason="body_timeout") from error
    except (OSError, ValueError) as error:
        raise BadRequest(f"The body can't be read: {error}.", reason="body_unreadable") from error
    if len(raw) > most:
        raise BodyTooLarge(f"The body has more than {most} bytes, which is the limit.")
    if length is not None and len(raw) < length:
        raise BadRequest(f"The body ended after {len(raw)} of its {length} bytes.", reason="body_unreadable")
    return raw


def _flaw(raw: bytes) -> str:
    """What is wrong with bytes that are not UTF-8 text; empty if they are."""
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        return f"byte {raw[error.start]:#04x} at position {error.start} is not UTF-8"
    return ""
