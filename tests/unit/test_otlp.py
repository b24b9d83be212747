"""What sends spans to a collector, and a collector whose answers are odd."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from gateway.process.trace_context import TraceContext
from gateway.tracing.otlp import OtlpExporter
from gateway.tracing.request_spans import SdkTracer
from gateway.tracing.spans import Span

#: An answer goes on up to here, in bytes or in s, unless it is left.
ENOUGH, LONG_S = 1 << 28, 60.0


@contextmanager
def endless(status: int, pause_s: float) -> Iterator[tuple[str, threading.Event]]:
    """The URL of a collector whose answers go on, and whether one of them was left before its end."""
    left = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.send_header("Content-Length", str(ENOUGH))
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


def export_job() -> None:
    """As the keeper does."""
    exporter = OtlpExporter("keeper", "n1")
    exporter.export([Span("chat fake", TraceContext(f"00-{'a' * 32}-{'b' * 16}-01", ""), "", 1000, 2000)])
    exporter.close()


def export_request() -> None:
    """As web and rpc do."""
    tracer = SdkTracer("web", "n1")
    tracer.begin("POST /v1/chat/completions", {}, {}).end({})
    tracer.close()


@pytest.mark.parametrize("status", [200, 503])
@pytest.mark.parametrize("pause_s", [0, 0.1], ids=["at once", "drop by drop"])
@pytest.mark.parametrize("export", [export_job, export_request])
def test_an_answer_without_end_is_left(
    monkeypatch: pytest.MonkeyPatch, export: Any, pause_s: float, status: int
) -> None:
    with endless(status, pause_s) as (url, left):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
        export()
        assert left.wait(LONG_S / 2), "the whole answer was read"
