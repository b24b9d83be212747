"""The wire between a model worker and its engine process: JSON behind a 4-byte big-endian length."""

from __future__ import annotations

import socket
import struct
from typing import Any

import orjson

_LENGTH = struct.Struct(">I")


class FrameSocket:
    """Frames over a stream socket. One reader and one writer at a time."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self._buffer = bytearray()

    @property
    def buffered(self) -> bool:
        """Whether a part of a frame, or a whole one, has been read already."""
        return bool(self._buffer)

    def send(self, value: Any) -> None:
        """Write one frame. Raises: OSError if the other side is gone."""
        body = orjson.dumps(value)
        self.socket.sendall(_LENGTH.pack(len(body)) + body)

    def receive(self) -> Any:
        """Read one frame. Raises: EOFError at the end, TimeoutError as the socket's time-out says."""
        while True:
            if len(self._buffer) >= _LENGTH.size:
                (length,) = _LENGTH.unpack_from(self._buffer)
                end = _LENGTH.size + length
                if len(self._buffer) >= end:
                    body = bytes(self._buffer[_LENGTH.size : end])
                    del self._buffer[:end]
                    return orjson.loads(body)
            data = self.socket.recv(1 << 16)
            if not data:
                raise EOFError("the other side closed the socket")
            self._buffer += data
