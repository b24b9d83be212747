"""What sends spans to a collector, and a collector whose answers are odd."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from gateway.process.trace_context import TraceContext
from gateway.tracing.otlp import NAMES_A_SESSION, OtlpExporter
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


@pytest.mark.parametrize("variable", NAMES_A_SESSION)
def test_a_session_that_the_environment_names_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    (tmp_path / "cloud.py").write_text(
        "import requests\n"
        "class Session(requests.Session):\n"
        "    asked = []\n"
        "    def request(self, **asked):\n"
        "        self.asked.append(asked)\n"
        "        raise ValueError\n"
    )
    about = tmp_path / "cloud-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: cloud\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[opentelemetry_otlp_credential_provider]\nmine = cloud:Session\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "cloud", raising=False)
    monkeypatch.setenv(variable, "mine")
    export_job()
    assert sys.modules["cloud"].Session.asked
