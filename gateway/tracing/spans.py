"""Spans, and who begins and exports them. Knows no job, and no OpenTelemetry."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from gateway.process.trace_context import TraceContext

#: Names as in OpenTelemetry's semantic conventions; `headrace.` is before our own. None: it is not known.
Value = str | int | float | None
Attributes = Mapping[str, Value]


@dataclass(frozen=True)
class Span:
    """A span that has ended. Times are ms since the epoch."""

    name: str
    context: TraceContext
    #: The id of the span above it, in the same trace.
    parent_id: str
    began_at: int
    ended_at: int
    attributes: Attributes = field(default_factory=dict)
    #: Why it failed, in a word; empty: it did not.
    error: str = ""
    #: It is a call of another server.
    outgoing: bool = False
    #: The worker that did it; empty: this process speaks for all.
    worker: str = ""
    #: Spans that it goes on with.
    links: Sequence[TraceContext] = ()
    #: What happened meanwhile, and when: name, time, attributes.
    events: Sequence[tuple[str, int, Attributes]] = ()


class RequestSpan(Protocol):
    """The span of a request that runs."""

    def end(self, attributes: Attributes, *, error: str = "") -> None:
        """End it. `error`: what is wrong on our side, in a word. The ids of the log context go with it."""


class Tracer(Protocol):
    """Begins the spans of a process' requests."""

    def begin(self, name: str, headers: Mapping[str, str], attributes: Attributes) -> RequestSpan:
        """The span of a request, in the trace that its headers name, if they do: the context works in it from now on.

        `headers`: `traceparent` and `tracestate`, as the client has sent them.
        """


class Exporter(Protocol):
    """Sends spans that have ended to a collector."""

    def export(self, spans: Iterable[Span]) -> None:
        """Send them. What the collector does not take in time is dropped."""

    def close(self) -> None:
        """End an export that goes on in another thread."""
