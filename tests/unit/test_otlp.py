"""What sends spans to a collector, and a collector whose answers are odd."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.process.trace_context import TraceContext
from gateway.tracing.otlp import OtlpExporter
from gateway.tracing.request_spans import SdkTracer
from gateway.tracing.spans import Span
from tests.endless import LONG_S, endless


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
