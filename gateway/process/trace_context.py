"""Where in a trace a thread, greenlet or task is: W3C Trace Context, https://www.w3.org/TR/trace-context/.

Knows no OpenTelemetry: what exports spans is `gateway/tracing`, where that is on.
"""

from __future__ import annotations

import hashlib
import re
from contextvars import ContextVar
from dataclasses import dataclass, replace

#: What we write: version, trace, span, flags.
_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_TRACESTATE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,510}[\x21-\x7e])?")


@dataclass(frozen=True)
class TraceContext:
    """A span of a trace, in the words of its two headers. Empty: there is none."""

    traceparent: str = ""
    tracestate: str = ""

    @classmethod
    def read(cls, traceparent: str, tracestate: str) -> TraceContext:
        """From a job record; empty if it can't be."""
        if not _TRACEPARENT.fullmatch(traceparent):
            return NONE
        return cls(traceparent, tracestate if _TRACESTATE.fullmatch(tracestate) else "")

    @property
    def trace_id(self) -> str:
        """32 hexadecimal digits."""
        return self.traceparent[3:35]

    @property
    def span_id(self) -> str:
        """16 hexadecimal digits."""
        return self.traceparent[36:52]

    @property
    def headers(self) -> dict[str, str]:
        """The headers that pass it on; none if it is empty."""
        found = {"traceparent": self.traceparent, "tracestate": self.tracestate}
        return {name: value for name, value in found.items() if value}

    def below(self, *names: str) -> TraceContext:
        """A span of the same trace whose id is made of these names: whoever knows them knows it."""
        if not self.traceparent:
            return NONE
        unique = " ".join((self.trace_id, *names)).encode()
        span_id = hashlib.blake2b(unique, digest_size=8).hexdigest()
        return replace(self, traceparent=f"00-{self.trace_id}-{span_id}-{self.traceparent[53:]}")


NONE = TraceContext()
_current: ContextVar[TraceContext] = ContextVar("trace", default=NONE)


def current() -> TraceContext:
    """The span in which this context works."""
    return _current.get()


def begin(context: TraceContext) -> None:
    """From now on this context works in that span."""
    _current.set(context)
