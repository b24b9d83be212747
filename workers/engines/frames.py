"""The wire between a model worker and its engine process: JSON behind a 4-byte big-endian length."""

from __future__ import annotations

import select
import socket
import struct
import time
from typing import Any

import orjson

from gateway.store.codec import dumps

_LENGTH = struct.Struct(">I")
#: A longer frame is none: what was read as its length is something else.
MAX_FRAME_BYTES = 256 * 1024 * 1024


class FrameSocket:
    """Frames over a stream socket. One reader and one writer at a time."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self._buffer = bytearray()
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)

    def send(self, value: Any) -> None:
        """Write one frame.

        Raises: OSError if the other side is gone, ValueError if it would be too long, or can't be written.
        """
        body = dumps(value).encode()
        if len(body) > MAX_FRAME_BYTES:
            raise ValueError(f"a frame of {len(body)} bytes; {MAX_FRAME_BYTES} at most")
        self.socket.sendall(_LENGTH.pack(len(body)) + body)

    def receive(self, timeout_s: float | None = None) -> Any:
        """Read one frame. Half a frame never blocks longer than a time-out says: the rest may come with the next call.

        Raises:
            TimeoutError: no whole frame was there in time.
            ValueError: it was no JSON; those behind it can be read.
            EOFError: there are no frames any more, or what comes are none.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while (body := self._taken()) is None:
            if deadline is not None and not self._poll.poll(1000 * max(0.0, deadline - time.monotonic())):
                raise TimeoutError("no whole frame in time")
            data = self.socket.recv(1 << 16)
            if not data:
                raise EOFError("the other side closed the socket")
            self._buffer += data
        return orjson.loads(body)

    def _taken(self) -> bytes | None:
        """The first frame's body, taken out of the buffer, if all of it is there."""
        if len(self._buffer) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._buffer)
        if length > MAX_FRAME_BYTES:
            raise EOFError(f"a frame of {length} bytes was announced; {MAX_FRAME_BYTES} at most")
        end = _LENGTH.size + length
        if len(self._buffer) < end:
            return None
        body = bytes(self._buffer[_LENGTH.size : end])
        del self._buffer[:end]
        return body
