"""Join tokens as admins see them, the same for both faces."""

from __future__ import annotations

from typing import Any

from gateway.access.audit import AuditLog
from gateway.access.certificates import authority
from gateway.access.join_tokens import JoinTokens
from gateway.access.key_record import KeyRecord
from gateway.cluster.join_address import join_url
from gateway.errors import Conflict
from gateway.settings import Settings
from schemas.cluster.joining import TokenParts, TokenRequest


class JoinTokenViews:
    """Makes, lists and revokes them, which the audit log notes."""

    def __init__(self, settings: Settings, tokens: JoinTokens, audit: AuditLog) -> None:
        self._settings = settings
        self._tokens = tokens
        self._audit = audit

    def shown(self) -> list[dict[str, Any]]:
        """All, newest first."""
        now_s = self._tokens.now_s()
        return [token.to_public(now_s) for token in self._tokens.all()]

    def create(self, request: TokenRequest, *, by: KeyRecord) -> dict[str, Any]:
        """A new one, with its text. Raises: PermissionDenied; Conflict if there is nowhere to join."""
        by.require("admin")
        if not self._settings.listen:
            raise Conflict(
                "This gateway listens for no other machines. Start it with 'headrace up --listen HOST:PORT', or set "
                "HEADRACE_LISTEN.",
                reason="no_listener",
            )
        with authority(self._settings) as ca:
            fingerprint = ca.fingerprint
        token, secret = self._tokens.create(ttl_s=request.ttl_s, uses=request.uses)
        self._audit.note(by, "token.create", token.id, ttl_s=request.ttl_s, uses=request.uses)
        text = str(TokenParts(secret, fingerprint))
        return {**token.to_public(token.created_at), "token": text, "url": join_url(self._settings.listen)}

    def revoke(self, token_id: str, *, by: KeyRecord) -> dict[str, Any]:
        """End one. Raises: PermissionDenied, NotFound."""
        by.require("admin")
        token = self._tokens.revoke(token_id)
        self._audit.note(by, "token.revoke", token.id)
        return token.to_public(self._tokens.now_s())
