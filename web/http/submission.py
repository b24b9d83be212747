"""Hands a request to the queue: reads its headers, and notes what the response's headers must say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Response, g, request

from gateway.errors import HeadraceError
from gateway.inference.service import Submitted
from web.http.envelope import caller, gateway

#: Blueprints whose POSTs ask a model.
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
    """What to answer where no job was made, which counts as a request too. For a model's own paths only."""
    submitted: Submitted | None = g.get("submitted")
    counted = submitted is not None and submitted.quota is not None
    if request.method != "POST" or request.blueprint not in ASKING or "key" not in g or counted:
        return error
    return gateway().inference.limits.refuse(caller(), error)


def add_headers(response: Response) -> None:
    """What is known of the job that the request has become."""
    if "submitted" in g:
        response.headers.update(g.submitted.headers())
