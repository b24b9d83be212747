"""A small HTTP server on loopback that stands in for a provider: it keeps to the protocol, and fails when told to.

What it says is made of numbered words, so that a continued answer can be told from a new one.
"""

from __future__ import annotations

import json
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

#: Words of an answer, unless a server is told otherwise.
WORDS = 12
#: A held stream ends by itself after so long, so that no test hangs.
HOLD_S = 30.0


def word(number: int) -> str:
    """The word with that number: one token."""
    return ("Grüße", " aus", " 水", " 🌊")[number] if number < 4 else f" w{number}"


def answer(count: int = WORDS, first: int = 0) -> str:
    """So many words."""
    return "".join(word(number) for number in range(first, first + count))


def count_words(text: str) -> int:
    """Tokens of a text, as this server counts."""
    return len(text.split())


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one request, after so many words."""

    #: `status`, `cut`, `end`, `hold`, `malformed`, `error`.
    kind: str
    after: int = 0
    status: int = 500
    headers: Mapping[str, str] = field(default_factory=dict)
    #: For `error`: the error's type in the protocol's words.
    type: str = "server_error"


@dataclass(frozen=True)
class Received:
    """One request."""

    path: str
    headers: Mapping[str, str]
    body: Mapping[str, Any]
    #: When, by a steady clock.
    at: float = field(default_factory=time.monotonic)


class Upstream:
    """One server. `faults` are used up by the requests that come, one each; None is a request that goes well."""

    def __init__(self, key: str) -> None:
        self.key = key
        #: How long an answer is if the request does not limit it, and the pause before each word.
        self.words, self.pace_s = WORDS, 0.0
        self.faults: deque[Fault | None] = deque()
        self.received: list[Received] = []
        #: Streams whose client has left before the end.
        self.left = threading.Semaphore(0)
        #: Streams that are held.
        self.held = threading.Semaphore(0)
        self.go = threading.Event()
        upstream = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                upstream.handle(self)

            def log_message(self, *_: Any) -> None:
                """Says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        """Stop listening."""
        self.go.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    # -- one request

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        """Read it, and answer it."""
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        headers = {name.lower(): value for name, value in handler.headers.items()}
        self.received.append(Received(handler.path, headers, body))
        fault = self.faults.popleft() if self.faults else None
        if not self.authorized(headers):
            return self.send(handler, 401, self.error(401, f"Incorrect API key provided: {self.sent_key(headers)}."))
        if fault and fault.kind == "status":
            text = f"It went wrong for {self.sent_key(headers)}."
            return self.send(handler, fault.status, self.error(fault.status, text), fault.headers)
        if text := self.refusal(body):
            return self.send(handler, 400, self.error(400, text))
        if not body.get("stream"):
            return self.send(handler, 200, self.whole(handler.path, body))
        self._stream(handler, self.events(handler.path, body), fault)
        return None

    def send(
        self, handler: BaseHTTPRequestHandler, status: int, body: Any, headers: Mapping[str, str] | None = None
    ) -> None:
        """A whole answer."""
        data = json.dumps(body).encode()
        handler.send_response(status)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(data)

    def _stream(self, handler: BaseHTTPRequestHandler, events: Iterator[tuple[str, str]], fault: Fault | None) -> None:
        """Server-sent events, (name, data) each, until the fault strikes."""
        if fault and fault.kind == "hold" and fault.after < 0:  # not even headers
            self._hold(handler.connection)
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream; charset=utf-8")
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        words = 0
        try:
            for name, data in events:
                if fault and words >= fault.after and (self.is_word(data) or self.is_count(data)):
                    if self._strike(handler, fault):
                        return
                    fault = None
                words += self.is_word(data)
                time.sleep(self.pace_s)
                self._event(handler, name, data)
            self._chunk(handler, b"")
        except OSError:
            self.left.release()
            handler.close_connection = True

    def _strike(self, handler: BaseHTTPRequestHandler, fault: Fault) -> bool:
        """True if that was the end."""
        if fault.kind == "hold":
            return self._hold(handler.connection)
        if fault.kind == "malformed":
            self._event(handler, self.text_event, '{"choices": [{"ind')
        elif fault.kind == "error":
            self._event(handler, *self.error_event(fault.type))
            self._chunk(handler, b"")
        elif fault.kind == "end":
            self._chunk(handler, b"")
        else:
            handler.connection.shutdown(socket.SHUT_RDWR)
        handler.close_connection = True
        return True

    def _hold(self, connection: socket.socket) -> bool:
        """Say nothing until the client leaves, or `go` is set. True if the client has left."""
        self.held.release()
        deadline = time.monotonic() + HOLD_S
        while not self.go.is_set() and time.monotonic() < deadline:
            if select.select([connection], [], [], 0.02)[0] and not connection.recv(1, socket.MSG_PEEK):
                self.left.release()
                return True
        return False

    def _event(self, handler: BaseHTTPRequestHandler, name: str, data: str) -> None:
        self._chunk(handler, ((f"event: {name}\n" if name else "") + f"data: {data}\n\n").encode())

    @staticmethod
    def _chunk(handler: BaseHTTPRequestHandler, data: bytes) -> None:
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        handler.wfile.flush()

    # -- the protocol

    #: Name of an event that brings text.
    text_event = ""

    def sent_key(self, headers: Mapping[str, str]) -> str:
        """The key that the client has sent."""
        raise NotImplementedError

    def authorized(self, headers: Mapping[str, str]) -> bool:
        """Whether it is the right one."""
        return self.sent_key(headers) == self.key

    def refusal(self, body: Mapping[str, Any]) -> str:
        """What is wrong with a request; empty if nothing is."""
        return ""

    def error(self, status: int, text: str) -> Mapping[str, Any]:
        """The body of an error."""
        raise NotImplementedError

    def error_event(self, kind: str) -> tuple[str, str]:
        """An error inside a stream."""
        raise NotImplementedError

    def whole(self, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """The body of an answer that is not streamed."""
        raise NotImplementedError

    def events(self, path: str, body: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """The events of a stream."""
        raise NotImplementedError

    def is_word(self, data: str) -> bool:
        """Whether an event brings a word (or a part of a call)."""
        raise NotImplementedError

    def is_count(self, data: str) -> bool:
        """Whether an event brings the count of tokens, behind all words."""
        return False


def texts(content: Any) -> str:
    """All text in a message's content."""
    if isinstance(content, str):
        return content
    parts: Sequence[Any] = content or ()
    return " ".join(texts(part.get("text") or part.get("content") or "") for part in parts)
