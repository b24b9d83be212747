"""Submits a request: reads its headers, and collects the headers of the response."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Response, g, request

from gateway.errors import HeadraceError
from gateway.inference.service import Submitted
from web.http.envelope import caller, gateway

#: Blueprints whose POSTs are requests to a model.
ASKING = ("inference", "openai")


def submit(kind: str, model_id: str, body: Mapping[str, Any]) -> Submitted:
    """A new job, or the one of an earlier request with the same Idempotency-Key. Raises: as `Inference.submit`."""
    background = "respond-async" in request.headers.get("Prefer", "").lower()
    submitted = g.submitted = gateway().inference.submit(
        kind,
        model_id,
        body,
        key=caller(),
        background=background,
        idempotency_key=request.headers.get("Idempotency-Key"),
    )
    return submitted


def refused(error: HeadraceError) -> HeadraceError:
    """The error to answer if no job was made; it still counts against the key's limits. For models' paths only."""
    if request.method != "POST" or request.blueprint not in ASKING or "key" not in g or "submitted" in g:
        return error
    return gateway().inference.limits.refuse(caller(), error)


def add_headers(response: Response) -> None:
    """Add the headers about the request's job."""
    if "submitted" in g:
        response.headers.update(g.submitted.headers())
