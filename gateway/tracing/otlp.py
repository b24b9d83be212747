"""OpenTelemetry's SDK, set up by its own variables (`OTEL_...`). Imported only where traces are exported."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from functools import lru_cache

import requests
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from gateway.process.trace_context import TraceContext
from gateway.process.version import own_version
from gateway.tracing.spans import Attributes, Span

#: Who makes the spans.
SCOPE = InstrumentationScope("headrace", own_version())
#: Variables that name what makes a session, which has credentials.
NAMES_A_SESSION = [f"OTEL_PYTHON_EXPORTER_OTLP_HTTP_{word}CREDENTIAL_PROVIDER" for word in ("", "TRACES_")]
#: The last time that OTLP can represent, in ns.
_MAX_NS = 2**64 - 1


class OtlpExporter:
    """Sends spans that have ended to the collector. `node`: of this machine."""

    def __init__(self, process: str, node: str) -> None:
        self._instance = f"{process}.{node}:{os.getpid()}"
        self._sender = sender()

    def export(self, spans: Iterable[Span]) -> None:
        """See `Exporter`. While the collector is away, it takes as long as OTEL_EXPORTER_OTLP_TIMEOUT says."""
        self._sender.export([_readable(span, resource_of(span.worker or self._instance)) for span in spans])

    def close(self) -> None:
        """End an export that goes on in another thread."""
        self._sender.shutdown()


def sender() -> OTLPSpanExporter:
    """What sends spans. It reads no body of an answer: nothing in it is used, and it may have no end.

    A session that the environment names is used as it is.
    """
    if any(map(os.environ.get, NAMES_A_SESSION)):
        return OTLPSpanExporter()
    session = requests.Session()
    session.hooks["response"] = [_unread]
    return OTLPSpanExporter(session=session)


def _unread(answer: requests.Response, **_: object) -> None:
    answer.close()
    answer.raw = io.BytesIO()


@lru_cache(maxsize=256)
def resource_of(instance: str) -> Resource:
    """What is said of a process. Names of the environment win."""
    ours = Resource.create(
        {"service.name": "headrace", "service.version": own_version(), "service.instance.id": instance}
    )
    return ours.merge(OTELResourceDetector().detect())


def known(attributes: Attributes) -> dict[str, str | int | float]:
    """Without those that are not known."""
    return {name: value for name, value in attributes.items() if value is not None}


def span_context(context: TraceContext, span_id: str = "") -> SpanContext:
    """The same for OpenTelemetry; of another span of the same trace, if one is given."""
    return SpanContext(
        int(context.trace_id, 16),
        int(span_id or context.span_id, 16),
        is_remote=False,
        trace_flags=TraceFlags(TraceFlags.SAMPLED),
        trace_state=TraceState.from_header([context.tracestate]) if context.tracestate else None,
    )


def _readable(span: Span, resource: Resource) -> ReadableSpan:
    return ReadableSpan(
        span.name,
        context=span_context(span.context),
        parent=span_context(span.context, span.parent_id),
        resource=resource,
        attributes=known({**span.attributes, "error.type": span.error or None}),
        events=[Event(name, known(attributes), _ns(at)) for name, at, attributes in span.events],
        links=[Link(span_context(other)) for other in span.links],
        kind=SpanKind.CLIENT if span.outgoing else SpanKind.INTERNAL,
        status=Status(StatusCode.ERROR, span.error) if span.error else Status(),
        start_time=_ns(span.began_at),
        end_time=_ns(max(span.began_at, span.ended_at)),
        instrumentation_scope=SCOPE,
    )


def _ns(time_ms: int) -> int:
    return min(1_000_000 * time_ms, _MAX_NS)
