"""Submits a request: reads its headers, and collects the headers of the response."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from flask import Response, g, request

from gateway.errors import HeadraceError, ModelNotFound
from gateway.inference.passed_on import unused_fields
from gateway.inference.service import Submitted
from gateway.jobs.record import Job
from gateway.process import log_context
from web.http.envelope import caller, gateway

#: Names of ignored fields in a header, and characters of each.
MAX_SHOWN, MAX_SHOWN_NAME = 40, 64
_NO_NAME = re.compile(r"[^A-Za-z0-9_.-]")
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
    log_context.note(job_id=submitted.job.id, model=submitted.job.served_as)
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
        if names := _ignored(g.submitted.job):
            response.headers["X-Ignored-Fields"] = names


def _ignored(job: Job) -> str:
    """The fields of the request that nobody reads, as a header's value; empty where such fields are refused."""
    if "dropped" not in g:
        return ""
    try:
        unused = unused_fields(gateway().catalog.get(job.runs_on), job.request)
    except ModelNotFound:  # the catalog has changed meanwhile
        unused = []
    names = list(dict.fromkeys([*unused, *g.dropped]))
    text = ", ".join(_NO_NAME.sub("?", name)[:MAX_SHOWN_NAME] for name in names[:MAX_SHOWN])
    return text if len(names) <= MAX_SHOWN else f"{text}, ..."
