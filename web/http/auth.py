"""Finds the key of a request: a bearer token, the header of Anthropic's clients, or the cookie of the dashboard.

A cookie counts only beside a header that pages of other origins can't send: browsers ask first whether they may, with
cookies, and no answer of this server says so (`web/http/cors.py`).
"""

from __future__ import annotations

from flask import Response, current_app, g, request

from gateway.process import log_context
from web.bearer import bearer
from web.http.envelope import WITHIN, caller, gateway

#: The session's cookie, and the header that the dashboard sends with each request.
COOKIE, DASHBOARD_HEADER = "headrace_session", "X-Headrace-Dashboard"


def authenticate() -> None:
    """Runs before each request of a blueprint. Raises: Unauthenticated; QueueFull, if too many requests are open."""
    secret = bearer(request.headers.get("Authorization", "")) or request.headers.get("X-Api-Key", "").strip()
    token = "" if secret else session_token()
    g.key = gateway().sessions.authenticate(token) if token else gateway().credentials.authenticate(secret)
    log_context.note(key_id=g.key.id)
    if WITHIN not in request.environ:
        g.give_back = current_app.extensions["headrace.shares"].take(g.key.id)


def session_token() -> str:
    """The session of the dashboard that sends this request; empty if there is none."""
    return request.cookies.get(COOKIE, "") if DASHBOARD_HEADER in request.headers else ""


def require_admin() -> None:
    """Runs before each request of a blueprint for admins, after `authenticate`. Raises: PermissionDenied."""
    caller().require("admin")


def give_back(response: Response) -> None:
    """Uncount the request when its response has been sent, or its client is gone."""
    if "give_back" in g:
        response.call_on_close(g.give_back)
