"""Traces, in OpenTelemetry's terms: the spans of requests, those of their jobs, and their export."""
