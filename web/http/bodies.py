"""Bodies on a connection. Those of requests are read with a time-out, a limit on chunks, and turns for other requests.

gunicorn itself reads the rest of a body that the application has not read, of any size, before the connection's next
request. Here a connection with an unread body is closed. Knows nothing of the content of bodies.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import time
from typing import Any

import gevent
from gunicorn.http.body import Body, ChunkedReader
from gunicorn.http.errors import InvalidChunkSize, ParseException

#: Longest time to read a body.
BODY_S = 120.0
#: Most chunks in one body, and in one turn of a greenlet: each costs some microseconds, however small.
MAX_CHUNKS, CHUNKS_A_TURN = 20_000, 64
#: How much a client may still send while its body is refused. Beyond that it may see a broken connection instead of the
#: answer.
LINGER_BYTES, LINGER_S = 16 * 1024 * 1024, 5.0
_PIECE = 64 * 1024


class BoundedChunks(ChunkedReader):  # type: ignore[misc]
    """A chunked body with a limit on chunks, which lets other greenlets run."""

    chunks = 0

    def parse_chunk_size(self, unreader: Any, data: bytes | None = None) -> Any:
        """The size of the next chunk. Raises: InvalidChunkSize after the last allowed one."""
        self.chunks += 1
        if self.chunks > MAX_CHUNKS:
            raise InvalidChunkSize(b"more than %d chunks" % MAX_CHUNKS)
        if self.chunks % CHUNKS_A_TURN == 0:
            gevent.sleep(0)
        return super().parse_chunk_size(unreader, data)


class BoundedBody(Body):  # type: ignore[misc]
    """Replaces gunicorn's body of a request."""

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


class HeadWithBody:
    """A connection for one response, whose head it sends with the first piece of the body: gunicorn writes one right
    after the other, and each packet wakes its reader up.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._head: bytes | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def sendall(self, data: bytes) -> None:
        """Send it, after the head. Raises: OSError (BrokenPipeError if its reader has read nothing for too long)."""
        if self._head is None:
            self._head = data
            return
        head, self._head = self._head, b""
        try:
            self._connection.sendall(head + data)
        except TimeoutError as error:  # gunicorn would log it as a fault of ours
            raise BrokenPipeError(errno.EPIPE, "the client reads nothing") from error

    def flush(self) -> None:
        """Send a head that no body has followed, if its reader is still there."""
        if self._head:
            with contextlib.suppress(OSError):
                self.sendall(b"")


def linger(connection: socket.socket) -> None:
    """Read and drop what the client still sends, for a while, before the connection is closed: closing it with unread
    bytes could make TCP drop the answer, too (RFC 9112, 9.6).
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
