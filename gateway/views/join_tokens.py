"""Join tokens as admins see them, the same for both faces."""

from __future__ import annotations

from typing import Any

from gateway.access.certificates import authority
from gateway.access.join_tokens import JoinTokens
from gateway.cluster.join_address import join_url
from gateway.errors import Conflict
from gateway.settings import Settings
from schemas.cluster.joining import TokenParts, TokenRequest


class JoinTokenViews:
    """Makes, lists and revokes them."""

    def __init__(self, settings: Settings, tokens: JoinTokens) -> None:
        self._settings = settings
        self._tokens = tokens

    def shown(self) -> list[dict[str, Any]]:
        """All, newest first."""
        now_s = self._tokens.now_s()
        return [token.to_public(now_s) for token in self._tokens.all()]

    def create(self, request: TokenRequest) -> dict[str, Any]:
        """A new one, with its text. Raises: Conflict if there is nowhere to join."""
        if not self._settings.listen:
            raise Conflict(
                "This gateway listens for no other machines. Start it with 'headrace up --listen HOST:PORT', or set "
                "HEADRACE_LISTEN.",
                reason="no_listener",
            )
        with authority(self._settings) as ca:
            fingerprint = ca.fingerprint
        token, secret = self._tokens.create(ttl_s=request.ttl_s, uses=request.uses)
        text = str(TokenParts(secret, fingerprint))
        return {**token.to_public(token.created_at), "token": text, "url": join_url(self._settings.listen)}

    def revoke(self, token_id: str) -> dict[str, Any]:
        """End one. Raises: NotFound."""
        return self._tokens.revoke(token_id).to_public(self._tokens.now_s())
