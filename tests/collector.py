"""A collector of traces: takes spans as OpenTelemetry's exporters send them, and keeps them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1 import trace_pb2

from tests.stack import eventually


@dataclass(frozen=True)
class Collected:
    """One span, its ids as hexadecimal digits."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    kind: str
    began: int
    ended: int
    attributes: dict[str, Any]
    resource: dict[str, Any]
    failed: bool
    links: tuple[str, ...]
    events: tuple[str, ...]
    state: str


class Collector:
    """What has arrived so far."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.spans: list[Collected] = []
        #: All that was sent, as bytes.
        self.bodies: list[bytes] = []

    @property
    def environ(self) -> dict[str, str]:
        """The variables with which OpenTelemetry sends to it, soon."""
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": self.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}

    def trace(self, trace_id: str, *names: str) -> list[Collected]:
        """The spans of a trace, once all these names are there, by their beginnings, then as they were sent."""

        def found() -> list[Collected]:
            spans = [span for span in list(self.spans) if span.trace_id == trace_id]
            return spans if {span.name for span in spans} >= set(names) else []

        eventually(found, f"a trace with {names}")
        return sorted(found(), key=lambda span: span.began)

    def take(self, body: bytes) -> None:
        """Keep what an exporter has sent."""
        self.bodies.append(body)
        self.spans += [
            _collected(span, _attributes(of_process.resource.attributes))
            for of_process in ExportTraceServiceRequest.FromString(body).resource_spans
            for part in of_process.scope_spans
            for span in part.spans
        ]


@contextmanager
def collector(port: int = 0) -> Iterator[Collector]:
    """A collector that listens until the end of the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            found.take(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        server.daemon_threads = True
        found = Collector(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield found
        server.shutdown()
        thread.join()


def _collected(span: trace_pb2.Span, resource: dict[str, Any]) -> Collected:
    return Collected(
        name=span.name,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        kind=trace_pb2.Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower(),
        began=span.start_time_unix_nano,
        ended=span.end_time_unix_nano,
        attributes=_attributes(span.attributes),
        resource=resource,
        failed=span.status.code == trace_pb2.Status.STATUS_CODE_ERROR,
        links=tuple(link.span_id.hex() for link in span.links),
        events=tuple(event.name for event in span.events),
        state=span.trace_state,
    )


def _attributes(found: Any) -> dict[str, Any]:
    def value(one: KeyValue) -> Any:
        return getattr(one.value, one.value.WhichOneof("value"))

    return {one.key: value(one) for one in found}
