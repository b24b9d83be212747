"""The secret in an `Authorization` header, or in the metadata of that name."""

from __future__ import annotations

from gateway.errors import Unauthenticated


def bearer(authorization: str) -> str:
    """The secret; empty if there is none. Raises: Unauthenticated for another scheme."""
    scheme, _, secret = authorization.partition(" ")
    if scheme and scheme.lower() != "bearer":
        raise Unauthenticated(f"The authorization scheme {scheme[:20]!r} is not supported; use 'Bearer YOUR_KEY'.")
    return secret.strip()
