"""Finds the key of a request. Bearer tokens only."""

from __future__ import annotations

from flask import g, request

from web.bearer import bearer
from web.envelope import gateway


def authenticate() -> None:
    """To run before each request of a blueprint. Raises: Unauthenticated."""
    g.key = gateway().credentials.authenticate(bearer(request.headers.get("Authorization", "")))
