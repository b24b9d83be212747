"""Finds the key of a request. Bearer tokens only."""

from __future__ import annotations

from flask import g, request

from gateway.errors import Unauthenticated
from web.envelope import gateway


def authenticate() -> None:
    """To run before each request of a blueprint. Raises: Unauthenticated."""
    scheme, _, secret = request.headers.get("Authorization", "").partition(" ")
    if scheme and scheme.lower() != "bearer":
        raise Unauthenticated(f"The authorization scheme {scheme[:20]!r} is not supported; use 'Bearer YOUR_KEY'.")
    g.key = gateway().credentials.authenticate(secret.strip())
