"""How request bodies come off a connection: within a time, in so many chunks at most, and without holding others up.

gunicorn reads what an application has left of a body itself, however much it is, before the connection's next request;
here a connection with an unread body is closed. Knows nothing of what bodies hold.
"""

from __future__ import annotations

import contextlib
import socket
import time
from typing import Any

import gevent
from gunicorn.http.body import Body, ChunkedReader
from gunicorn.http.errors import InvalidChunkSize, ParseException

#: A body must be here after so long.
BODY_S = 120.0
#: Chunks in one body, and in one turn of a greenlet: each costs some microseconds, however little it holds.
MAX_CHUNKS, CHUNKS_A_TURN = 20_000, 64
#: What a client may go on sending while it is told that its body is not wanted. Beyond that it may find the
#: connection broken instead of the answer.
LINGER_BYTES, LINGER_S = 16 * 1024 * 1024, 5.0
_PIECE = 64 * 1024


class BoundedChunks(ChunkedReader):  # type: ignore[misc]
    """Counts the chunks, and gives way to others."""

    chunks = 0

    def parse_chunk_size(self, unreader: Any, data: bytes | None = None) -> Any:
        """The size of the next chunk. Raises: InvalidChunkSize behind the last one that is allowed."""
        self.chunks += 1
        if self.chunks > MAX_CHUNKS:
            raise InvalidChunkSize(b"more than %d chunks" % MAX_CHUNKS)
        if self.chunks % CHUNKS_A_TURN == 0:
            gevent.sleep(0)
        return super().parse_chunk_size(unreader, data)


class BoundedBody(Body):  # type: ignore[misc]
    """The body of a request of gunicorn, in the place of its own."""

    def __init__(self, request: Any, connection: socket.socket) -> None:
        reader = request.body.reader
        chunked = isinstance(reader, ChunkedReader)
        super().__init__(BoundedChunks(request, request.unreader) if chunked else reader)
        self._connection = connection
        self._until = time.monotonic() + BODY_S
        closes = request.should_close
        request.body, request.should_close = self, lambda: closes() or not self.finished

    @property
    def finished(self) -> bool:
        """Whether all of it was read, so that the connection's next bytes are its next request."""
        left = self.reader.parser if isinstance(self.reader, ChunkedReader) else self.reader.length
        return not left and not self.failed and not self.buf.tell()

    def _read_reader(self, size: int) -> bytes:
        """Raises: OSError (TimeoutError if it took too long), after which nothing more can be read."""
        self._connection.settimeout(max(0.001, self._until - time.monotonic()))
        try:
            data: bytes = super()._read_reader(size)
            return data
        except ParseException as error:
            raise OSError(str(error)) from error
        finally:
            self._connection.settimeout(None)


def linger(connection: socket.socket) -> None:
    """Take what the client still sends, unread and for a while, before the connection is closed: with unread bytes on
    it TCP would throw away the answer too (RFC 9112, 9.6).
    """
    left, until = LINGER_BYTES, time.monotonic() + LINGER_S
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_WR)
        while left > 0 and (wait_s := until - time.monotonic()) > 0:
            connection.settimeout(wait_s)
            data = connection.recv(_PIECE)
            if not data:
                return
            left -= len(data)
            gevent.sleep(0)
