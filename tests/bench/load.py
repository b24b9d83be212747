"""The load generator: `python -m tests.bench.load`, one JSON request a line on stdin, one JSON result a line on stdout.

A bare asyncio protocol, because on two cores its own CPU time would otherwise be a good part of what is measured.
"""

from __future__ import annotations

import asyncio
import json
import re
import resource
import sys
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

from tests.bench.workload import Sample, summary

#: Ends the body of a streamed answer, whatever the server's events look like.
LAST_CHUNK = b"\r\n0\r\n\r\n"
_USAGE = re.compile(rb'"completion_tokens":\s*(\d+)')


class StreamingRequest(asyncio.Protocol):
    """One POST, and the arrival time of each of its events."""

    #: The connection stays open behind the answer.
    keeps = False

    def __init__(self, request: bytes, done: asyncio.Future[Sample]) -> None:
        self._request = request
        self._done = done
        self._tail = b""
        #: What has come so far.
        self.sample = Sample(0.0)

    def connection_made(self, transport: Any) -> None:
        """Send the request."""
        self._transport = transport
        self.sample.sent = time.perf_counter()
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Note the time of a piece of text. The first chunk of a chat holds no text yet."""
        now = time.perf_counter()
        pieces = data.count(b'"content":') + data.count(b'"text":') - data.count(b'"content":""')
        if pieces > 0:
            self.sample.arrivals.append(now)
            self.sample.tokens += pieces
        self._tail = (self._tail + data)[-600:]
        if self._tail.endswith(LAST_CHUNK):
            if found := _USAGE.findall(self._tail):
                self.sample.tokens = int(found[-1])
            if not self.keeps:
                self._transport.close()
            if not self._done.done():
                self._done.set_result(self.sample)

    def connection_lost(self, error: Exception | None) -> None:
        """A stream that breaks is an error of the run."""
        if not self._done.done():
            self._done.set_exception(RuntimeError(f"the server closed the stream: {error}; {self._tail[-300:]!r}"))


def request_bytes(host: str, path: str, headers: Mapping[str, str], body: Mapping[str, Any]) -> bytes:
    """One POST of a JSON body."""
    content = json.dumps(body).encode()
    lines = {**headers, "Host": host, "Content-Type": "application/json", "Content-Length": str(len(content))}
    head = f"POST {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return head.encode() + b"\r\n" + content


async def run(host: str, port: int, path: str, headers: dict[str, str], bodies: list[dict[str, Any]]) -> list[Sample]:
    """Send all requests at once; wait for all streams."""
    loop = asyncio.get_running_loop()
    waiting = []
    for body in bodies:
        done: asyncio.Future[Sample] = loop.create_future()
        request = request_bytes(host, path, headers, body)
        await loop.create_connection(partial(StreamingRequest, request, done), host, port)
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
