"""Switches tracing on in a process, if the settings say so. Only then is OpenTelemetry imported."""

from __future__ import annotations

from importlib import metadata

from gateway.errors import InvalidSetting
from gateway.settings import Settings
from gateway.tracing.spans import Exporter, Tracer

#: The package that the extra `otel` brings.
EXPORTER = "opentelemetry-exporter-otlp-proto-http"


def require(settings: Settings) -> None:
    """Raises: InvalidSetting if tracing is on, and what it needs is not installed."""
    if not settings.otel:
        return
    try:
        metadata.version(EXPORTER)
    except metadata.PackageNotFoundError as error:
        raise InvalidSetting(
            f"HEADRACE_OTEL is on, but {EXPORTER} is not installed here. Install it: pip install 'headrace[otel]'."
        ) from error


def tracer(settings: Settings, process: str) -> Tracer | None:
    """For a process that serves requests, after its last fork; None: traces are off. Raises: InvalidSetting."""
    require(settings)
    if not settings.otel:
        return None
    from gateway.tracing.request_spans import SdkTracer

    return SdkTracer(process, settings.node)


def exporter(settings: Settings, process: str) -> Exporter | None:
    """For the process that exports the spans of jobs. Raises: InvalidSetting."""
    require(settings)
    if not settings.otel:
        return None
    from gateway.tracing.otlp import OtlpExporter

    return OtlpExporter(process, settings.node)
