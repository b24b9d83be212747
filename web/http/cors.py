"""Lets pages of other origins call this server from a browser (fetch.spec.whatwg.org, "HTTP-CORS protocol").

A setting names the allowed origins. Cookies are not used: a page needs an API key, as every client does.
"""

from __future__ import annotations

import re

from flask import Response, request

from web.http.envelope import gateway

#: How long a browser may cache the answer to a preflight, in seconds.
MAX_AGE_S = 600
#: Headers of an answer that a page may read, besides the safelisted ones.
EXPOSED = (
    *(
        "X-Request-Id",
        "X-Job-Id",
        "X-Ignored-Fields",
        "Idempotent-Replayed",
        "Retry-After",
        "x-should-retry",
        "Location",
        "Preference-Applied",
    ),
    *(f"x-ratelimit-{what}-{unit}" for what in ("limit", "remaining", "reset") for unit in ("requests", "tokens")),
)
#: A list of header names that a page asks to send.
_NAMES = re.compile(r"[A-Za-z0-9_-]{1,100}(?:\s*,\s*[A-Za-z0-9_-]{1,100}){0,99}")


def preflight() -> Response | None:
    """The answer to a browser's preflight request, which has no key."""
    if request.method != "OPTIONS" or "Access-Control-Request-Method" not in request.headers or not _allowed():
        return None
    response = Response(status=204)
    response.headers["Access-Control-Allow-Methods"] = "GET, POST, PUT, PATCH, DELETE"
    wanted = request.headers.get("Access-Control-Request-Headers", "")
    if _NAMES.fullmatch(wanted):
        response.headers["Access-Control-Allow-Headers"] = wanted
    response.headers["Access-Control-Max-Age"] = str(MAX_AGE_S)
    return response


def add_headers(response: Response) -> None:
    """Add the headers that let the page read the answer."""
    allowed = _allowed()
    if allowed:
        response.headers["Access-Control-Allow-Origin"] = allowed
        response.headers["Access-Control-Expose-Headers"] = ", ".join(EXPOSED)
    if allowed != "*":
        response.headers.add("Vary", "Origin")


def _allowed() -> str:
    """`*`, the origin of the page if it may call, or nothing."""
    origin = request.headers.get("Origin", "")
    origins = gateway().settings.cors_origins.replace(",", " ").split()
    return ("*" if "*" in origins else origin if origin in origins else "") if origin else ""
