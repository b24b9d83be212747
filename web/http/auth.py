"""Finds the key of a request: a bearer token, or the header of Anthropic's clients."""

from __future__ import annotations

from flask import Response, current_app, g, request

from web.bearer import bearer
from web.http.envelope import caller, gateway


def authenticate() -> None:
    """Runs before each request of a blueprint. Raises: Unauthenticated; QueueFull, if too many requests are open."""
    secret = bearer(request.headers.get("Authorization", "")) or request.headers.get("X-Api-Key", "").strip()
    g.key = gateway().credentials.authenticate(secret)
    g.give_back = current_app.extensions["headrace.shares"].take(g.key.id)


def require_admin() -> None:
    """Runs before each request of a blueprint for admins, after `authenticate`. Raises: PermissionDenied."""
    caller().require("admin")


def give_back(response: Response) -> None:
    """Uncount the request when its response has been sent, or its client is gone."""
    if "give_back" in g:
        response.call_on_close(g.give_back)
