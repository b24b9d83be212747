"""The wire between a model worker and its engine process: JSON behind a 4-byte big-endian length.

Each side uses its own JSON library: an engine process the standard one.
"""

from __future__ import annotations

import json
import select
import socket
import struct
import time
from collections.abc import Callable
from typing import Any

_LENGTH = struct.Struct(">I")
#: A longer length is not one: the stream is out of step.
MAX_FRAME_BYTES = 256 * 1024 * 1024


def _as_text(value: Any) -> Any:
    """A JSON form for other types: numbers of numpy, else the text of a value."""
    return value.item() if hasattr(value, "item") else str(value)


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=_as_text).encode


def _loads(text: bytes) -> Any:
    """Raises: ValueError."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error


class FrameSocket:
    """Frames over a stream socket. One reader and one writer at a time.

    `dumps` and `loads` write and read their JSON; both raise ValueError.
    """

    def __init__(
        self,
        sock: socket.socket,
        *,
        dumps: Callable[[Any], str] = _encode,
        loads: Callable[[bytes], Any] = _loads,
    ) -> None:
        self._dumps, self._loads = dumps, loads
        self.socket = sock
        self._buffer = bytearray()
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)

    def send(self, value: Any) -> None:
        """Write one frame.

        Raises: OSError if the other side is gone, ValueError if it would be too long, or can't be written.
        """
        body = self._dumps(value).encode(errors="replace")
        if len(body) > MAX_FRAME_BYTES:
            raise ValueError(f"a frame of {len(body)} bytes; {MAX_FRAME_BYTES} at most")
        self.socket.sendall(_LENGTH.pack(len(body)) + body)

    def receive(self, timeout_s: float | None = None) -> Any:
        """Read one frame. Half a frame does not block beyond the time-out: the rest may come with the next call.

        Raises:
            TimeoutError: no whole frame was there in time.
            ValueError: it was not JSON; later frames can be read.
            EOFError: the socket is closed, or the stream is out of step.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while (body := self._taken()) is None:
            if deadline is not None and not self._poll.poll(1000 * max(0.0, deadline - time.monotonic())):
                raise TimeoutError("no whole frame in time")
            data = self.socket.recv(1 << 16)
            if not data:
                raise EOFError("the other side closed the socket")
            self._buffer += data
        return self._loads(body)

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
