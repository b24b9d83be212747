"""A server whose answers have no end."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

#: An answer goes on up to here, in bytes or in s, unless it is left.
ENOUGH, LONG_S = 1 << 28, 60.0


@contextmanager
def endless(status: int, pause_s: float, coding: str = "identity") -> Iterator[tuple[str, threading.Event]]:
    """The URL of a server whose answers go on, drop by drop where there is a pause, and whether one of them was left
    before its end.
    """
    left = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(ENOUGH))
            self.send_header("Content-Encoding", coding)
            if status // 100 == 3:
                self.send_header("Location", self.path)
            self.end_headers()
            piece = b" " * (1 if pause_s else 1 << 16)
            until = time.monotonic() + LONG_S
            try:
                for _ in range(ENOUGH // len(piece)):
                    self.wfile.write(piece)
                    time.sleep(pause_s)
                    if time.monotonic() > until:
                        break
            except OSError:
                left.set()

        def log_message(self, *args: Any) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", left
        server.shutdown()
