"""The load generator for gRPC: a bare protocol like `tests/bench/load.py`, with as much of HTTP/2 as a stream needs."""

from __future__ import annotations

import asyncio
import json
import resource
import struct
import sys
import time
from functools import partial
from typing import Any

from google.protobuf.json_format import ParseDict

from tests.bench.workload import Sample, summary
from web.rpc.stubs import model_pb2 as pb

#: Frame types and flags of RFC 9113.
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS = 1, 1, 4
#: So large that a run needs no more of it.
WINDOW = 2**31 - 1


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """One frame."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def header(name: str, value: str) -> bytes:
    """A literal header field, neither indexed nor compressed (RFC 7541, 6.2.2)."""
    parts = [part.encode() for part in (name, value)]
    assert all(len(part) < 127 for part in parts)
    return b"\0" + b"".join(bytes([len(part)]) + part for part in parts)


def opening(path: str, headers: dict[str, str], message: bytes) -> bytes:
    """A connection with one call, complete from the client's side."""
    fields = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "localhost", "te": "trailers"}
    fields |= {"content-type": "application/grpc", **headers}
    block = b"".join(header(name, value) for name, value in fields.items())
    return b"".join(
        (
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            frame(SETTINGS, 0, 0, struct.pack(">HI", 4, WINDOW)),
            frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", WINDOW - 65_535)),
            frame(HEADERS, END_HEADERS, 1, block),
            frame(DATA, END_STREAM, 1, b"\0" + struct.pack(">I", len(message)) + message),
        )
    )


class StreamingCall(asyncio.Protocol):
    """One call, and the arrival time of each of its messages."""

    def __init__(self, request: bytes, done: asyncio.Future[Sample]) -> None:
        self._request = request
        self._done = done
        self._received, self._messages = b"", b""
        self._sample = Sample(0.0)
        self._counted = False

    def connection_made(self, transport: Any) -> None:
        """Send the request."""
        self._transport = transport
        self._sample.sent = time.perf_counter()
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Read whole frames, and note the time of a piece of text."""
        now = time.perf_counter()
        self._received += data
        while len(self._received) >= 9 and len(self._received) >= (end := 9 + _size(self._received)):
            kind, flags = self._received[3:5]
            self._take(kind, flags, self._received[9:end])
            self._received = self._received[end:]
        if self._texts(now):
            self._sample.arrivals.append(now)

    def connection_lost(self, error: Exception | None) -> None:
        """A stream that breaks is an error of the run."""
        self._fail(f"the connection is lost: {error}")

    def _take(self, kind: int, flags: int, payload: bytes) -> None:
        if kind == DATA:
            self._messages += payload
        elif kind in (SETTINGS, PING) and not flags & ACK:
            self._transport.write(frame(kind, ACK, 0, payload if kind == PING else b""))
        elif kind in (RST_STREAM, GOAWAY):
            self._fail(f"frame {kind}: {payload!r}")
        elif kind == HEADERS and flags & END_STREAM:
            self._texts(time.perf_counter())
            if not self._counted:
                self._fail(f"it ended without usage: {payload!r}")
            elif not self._done.done():
                self._done.set_result(self._sample)
            self._transport.close()

    def _texts(self, now: float) -> bool:
        """Whether the messages that are complete hold text."""
        found = False
        while len(self._messages) >= 5 and len(self._messages) >= (end := 5 + _size(self._messages[1:], 4)):
            chunk = pb.ChatCompletionChunk.FromString(self._messages[5:end])
            self._messages = self._messages[end:]
            found = found or any(choice.delta.content for choice in chunk.choices)
            if chunk.HasField("usage"):
                self._sample.tokens, self._counted = chunk.usage.completion_tokens, True
        return found

    def _fail(self, why: str) -> None:
        if not self._done.done():
            self._done.set_exception(RuntimeError(f"a gRPC stream failed: {why}"))


def _size(data: bytes, length: int = 3) -> int:
    return int.from_bytes(data[:length], "big")


async def run(port: int, path: str, headers: dict[str, str], bodies: list[dict[str, Any]]) -> list[Sample]:
    """Send all requests at once, each on a connection of its own as over HTTP; wait for all streams."""
    loop = asyncio.get_running_loop()
    waiting = []
    for body in bodies:
        request = opening(path, headers, ParseDict(body, pb.ChatCompletionRequest()).SerializeToString())
        done: asyncio.Future[Sample] = loop.create_future()
        await loop.create_connection(partial(StreamingCall, request, done), "127.0.0.1", port)
        waiting.append(done)
    return list(await asyncio.gather(*waiting))


def main() -> None:
    """Serve runs until stdin closes."""
    for line in sys.stdin:
        before = resource.getrusage(resource.RUSAGE_SELF)
        result = summary(asyncio.run(run(**json.loads(line))))
        after = resource.getrusage(resource.RUSAGE_SELF)
        result["cpu_s"] = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
