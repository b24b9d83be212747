"""OpenAI's own shapes, for everything below `/v1`: bare objects, and errors as OpenAI's clients know them."""

from __future__ import annotations

from typing import Any

from flask import request

from gateway.errors import HeadraceError


def on_v1() -> bool:
    """Whether this request speaks OpenAI's protocol."""
    return request.path.startswith("/v1/")


def status(error: HeadraceError) -> int:
    """OpenAI has no 422: what is wrong with a request is a 400."""
    return 400 if error.http_status == 422 else error.http_status


def error_body(error: HeadraceError) -> dict[str, Any]:
    """`param` is the first field that is wrong, `code` our reason."""
    param = next(iter(error.errors), "model" if error.reason in ("model_not_found", "model_not_allowed") else None)
    return {"error": {"message": error.message, "type": _kind(error), "param": param, "code": error.reason}}


def _kind(error: HeadraceError) -> str:
    if error.http_status >= 500:
        return "server_error"
    return {403: "permission_error", 429: "rate_limit_error"}.get(error.http_status, "invalid_request_error")
