"""Dialects for kinds of clients: the bodies of answers and errors, and the format of a stream.

A blueprint sets the dialect of its clients; a view may choose another one for its stream.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from gateway.errors import HeadraceError
from gateway.jobs.record import Job
from gateway.store.codec import dumps
from gateway.views.chunk_stream import ChunkStream
from web.http.chunks import sse_chunks


class Dialect(ABC):
    """One dialect, within one request."""

    #: Whether clients can resume a stream at a cursor, and accept that earlier text becomes void. Else a stream goes on
    #: for as long as possible, and ends with an error if necessary.
    resumable: ClassVar[bool]
    #: How long a stream's head is held back for the first that it shows; only who waits for longer is told so.
    patience_s: ClassVar[float] = 0.2
    #: Whether an error that is found meanwhile is answered with its own status, as no stream.
    tells_early_errors: ClassVar[bool] = False
    #: The error that ends the stream of a job that was cancelled; None: its last chunk says so.
    cancelled: ClassVar[HeadraceError | None] = None
    #: The last event of a stream.
    end: ClassVar[str] = "data: [DONE]\n\n"

    @abstractmethod
    def answer(self, data: Any, *, status: int, message: str) -> Any:
        """The body of an answer."""

    @abstractmethod
    def error(self, error: HeadraceError) -> tuple[int, dict[str, Any]]:
        """The status of an error, and its body."""

    @abstractmethod
    def error_event(self, error: HeadraceError) -> str:
        """An error as an event of a stream whose status was already sent."""

    def chunks(self, job: Job) -> ChunkStream[str]:
        """The encoder of a job's events as events of a stream."""
        return sse_chunks(job)


@dataclass(frozen=True)
class Plain(Dialect):
    """The customer's own: all is in the envelope `{code, message, data, request_id}`."""

    request_id: str
    resumable = True

    def answer(self, data: Any, *, status: int, message: str) -> dict[str, Any]:
        """In the envelope."""
        return {"code": status, "message": message, "data": data, "request_id": self.request_id}

    def error(self, error: HeadraceError) -> tuple[int, dict[str, Any]]:
        """The error's text is the message; `data` has the wrong fields and further details."""
        data = {"reason": error.reason, **({"errors": error.errors} if error.errors else {}), **error.details}
        return error.http_status, self.answer(data, status=error.http_status, message=error.message)

    def error_event(self, error: HeadraceError) -> str:
        """An event of its own name."""
        return f"event: error\ndata: {dumps(self.error(error)[1])}\n\n"
