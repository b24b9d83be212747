"""OpenAI's dialect: bare objects, and errors as OpenAI's clients know them."""

from __future__ import annotations

from typing import Any

from gateway.errors import HeadraceError
from gateway.store.codec import dumps
from web.http.dialect import Dialect


class OpenAI(Dialect):
    """Its clients can neither resume a stream nor take text back."""

    resumable = False

    def answer(self, data: Any, *, status: int, message: str) -> Any:
        """As it is."""
        return data

    def error(self, error: HeadraceError) -> tuple[int, dict[str, Any]]:
        """`param` is the first field that is wrong, `code` our reason. There is no 422: what is wrong is a 400."""
        param = next(iter(error.errors), "model" if error.reason in ("model_not_found", "model_not_allowed") else None)
        shown = {"message": error.message, "type": _kind(error), "param": param, "code": error.reason}
        return 400 if error.http_status == 422 else error.http_status, {"error": shown}

    def error_event(self, error: HeadraceError) -> str:
        """Data like any other."""
        return f"data: {dumps(self.error(error)[1])}\n\n"


def _kind(error: HeadraceError) -> str:
    if error.http_status >= 500:
        return "server_error"
    return {403: "permission_error", 429: "rate_limit_error"}.get(error.http_status, "invalid_request_error")
