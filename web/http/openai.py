"""OpenAI's dialect: bare objects, and errors as OpenAI's clients know them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gateway.errors import Cancelled, HeadraceError
from gateway.jobs.record import Job
from gateway.store.codec import dumps
from gateway.views.chunk_stream import ChunkStream
from web.http import openai_bodies, openai_words
from web.http.dialect import Dialect

#: OpenAI's types of errors about the limits of a key, by our reasons; its code is the same for all.
_RATES = {"rate_limit_requests": "requests", "rate_limit_tokens": "tokens"}
CANCELLED = "The job was cancelled, by a request or because its key was revoked. What it had is at GET /jobs/{id}."


@dataclass(frozen=True)
class OpenAI(Dialect):
    """Its clients can neither resume a stream nor take text back, and don't know that a job can be cancelled.

    `old_calls`: the request knows `functions` only, so calls come as `function_call`.
    """

    old_calls: bool = False
    #: The field of the request that has the prompt.
    prompt: str | None = None
    resumable = False
    patience_s = 1.0
    tells_early_errors = True
    cancelled = Cancelled(CANCELLED)

    def answer(self, data: Any, *, status: int, message: str) -> Any:
        """With all keys that OpenAI's schemas have. Raises: Cancelled."""
        if openai_bodies.is_cancelled(data):
            raise self.cancelled
        return openai_bodies.whole(data, old_calls=self.old_calls)

    def chunks(self, job: Job) -> ChunkStream[str]:
        """See `web/http/openai_bodies.py`."""
        return openai_bodies.openai_chunks(job, old_calls=self.old_calls)

    def error(self, error: HeadraceError) -> tuple[int, dict[str, Any]]:
        """`param` is the first field that is wrong, `code` our reason. There is no 422: what is wrong is a 400."""
        fields = dict.fromkeys(("model_not_found", "model_not_allowed"), "model")
        fields["context_length_exceeded"] = self.prompt or "messages"
        param = next(iter(error.errors), fields.get(error.reason))
        code = "rate_limit_exceeded" if error.reason in _RATES else error.reason
        shown = {"message": openai_words.message(error), "type": _kind(error), "param": param, "code": code}
        return 400 if error.http_status == 422 else error.http_status, {"error": shown}

    def error_event(self, error: HeadraceError) -> str:
        """Data like any other."""
        return f"data: {dumps(self.error(error)[1])}\n\n"


def _kind(error: HeadraceError) -> str:
    if error.reason in _RATES:
        return _RATES[error.reason]
    if error.http_status >= 500:
        return "server_error"
    return {403: "permission_error", 429: "rate_limit_error"}.get(error.http_status, "invalid_request_error")
