"""The spans of the requests of one process, made while they run."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Mapping

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanContext, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from gateway.process import log_context, trace_context
from gateway.process.trace_context import TraceContext
from gateway.tracing.otlp import SCOPE, known, resource_of, sender
from gateway.tracing.spans import Attributes

#: Longest headers that are read.
MOST_CHARACTERS = 512
#: How long the end of a process waits for a last export.
CLOSE_S = 1.0
#: Ids of the log context that a span has, too.
_IDS = {"request_id": "headrace.request.id", "job_id": "headrace.job.id", "key_id": "headrace.key.id"}


class SdkTracer:
    """Begins the spans of requests, in the process that serves them: it has a thread, so it must not be forked.

    The thread exports them, and drops those for which its queue has no room, so that no request waits for it.
    """

    def __init__(self, process: str, node: str) -> None:
        resource = resource_of(f"{process}.{node}:{os.getpid()}")
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(sender()))
        self._tracer = self._provider.get_tracer(SCOPE.name, SCOPE.version)
        self._propagator = TraceContextTextMapPropagator()
        atexit.register(self.close)

    def begin(self, name: str, headers: Mapping[str, str], attributes: Attributes) -> SdkSpan:
        """See `Tracer`."""
        given = {name: value for name, value in headers.items() if 0 < len(value) <= MOST_CHARACTERS}
        above = self._propagator.extract(given)
        span = self._tracer.start_span(name, above, SpanKind.SERVER, known(attributes))
        context = _context(span.get_span_context())
        trace_context.begin(context)
        log_context.note(trace_id=context.trace_id)
        return SdkSpan(span)

    def close(self) -> None:
        """Export what is left, if the collector takes it soon."""
        ending = threading.Thread(target=self._provider.shutdown, daemon=True)
        ending.start()
        ending.join(CLOSE_S)


class SdkSpan:
    """The span of one request."""

    def __init__(self, span: Span) -> None:
        self._span = span

    def end(self, attributes: Attributes, *, error: str = "") -> None:
        """See `RequestSpan`."""
        ids = {name: log_context.current().get(word) for word, name in _IDS.items()}
        self._span.set_attributes(known({**attributes, **ids}))
        if error:
            self._span.set_status(StatusCode.ERROR, error)
        self._span.end()


def _context(span: SpanContext) -> TraceContext:
    if not span.is_valid:  # the SDK is switched off
        return trace_context.NONE
    traceparent = f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}"
    return TraceContext(traceparent, span.trace_state.to_header())
