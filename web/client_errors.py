"""Any exception as the one error that a client is told. Knows nothing of HTTP or gRPC."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from marshmallow import ValidationError

from gateway.errors import BadRequest, HeadraceError, InvalidRequest, StoreUnavailable
from gateway.store.connection import NOT_NOW
from schemas.base.fields import leaves

log = logging.getLogger(__name__)


def client_error(error: Exception, doing: str) -> HeadraceError:
    """The error for the client. An unexpected exception is logged, with `doing`."""
    if isinstance(error, HeadraceError):
        return error
    if isinstance(error, ValidationError):
        return invalid(error.messages if isinstance(error.messages, dict) else {"body": error.messages})
    if isinstance(error, NOT_NOW):
        log.error("Redis, at %s: %s", doing, error)
        return StoreUnavailable(
            "The job store does not answer, or can't take this now. Nothing that was accepted is lost; try again.",
            retry_after_s=2,
        )
    if isinstance(error, RecursionError):
        log.warning("too deep at %s: %s", doing, error)
        return BadRequest("The body is nested too deeply.", reason="invalid_json")
    log.error("unexpected error at %s", doing, exc_info=error)
    return HeadraceError("Something went wrong on our side; the log has the details under this request_id.")


def invalid(messages: Mapping[str, Any]) -> InvalidRequest:
    """The error for a schema's messages, with each field's path."""
    return InvalidRequest.of(flatten(messages))


def flatten(messages: Mapping[str, Any]) -> dict[str, list[str]]:
    """marshmallow's nested messages as `messages[0].role` -> texts."""
    found: dict[str, list[str]] = {}
    for path, texts in leaves(messages):
        name = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
        found.setdefault(name.removeprefix(".") or "body", []).extend(texts)
    return found
