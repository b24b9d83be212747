"""What admins do to API keys, which the audit log notes: make, change, rotate and revoke them, by id or name."""

from __future__ import annotations

from dataclasses import asdict

from gateway.access.api_keys import Credentials
from gateway.access.audit import AuditLog
from gateway.access.key_record import KeyRecord
from schemas.keys import KeyChange, KeyRequest


class KeyEditor:
    """Changes keys. `by` is the key of who does it, which must be an admin's."""

    def __init__(self, credentials: Credentials, audit: AuditLog) -> None:
        self._credentials = credentials
        self._audit = audit

    def create(self, request: KeyRequest, *, by: KeyRecord) -> tuple[KeyRecord, str]:
        """A new key, and its secret, which is not stored."""
        by.require("admin")
        record, secret = self._credentials.create(**asdict(request))
        self._audit.note(
            by, "key.create", record.id, **{name: value for name, value in asdict(request).items() if value}
        )
        return record, secret

    def update(self, name: str, change: KeyChange, *, by: KeyRecord) -> KeyRecord:
        """Change any of `name`, `models`, the limits and `expires_at`. Raises: NotFound, Conflict."""
        by.require("admin")
        record = self._credentials.update(self._credentials.find(name).id, change.fields)
        self._audit.note(by, "key.update", record.id, **change.fields)
        return record

    def rotate(self, name: str, *, grace_s: int, by: KeyRecord) -> tuple[KeyRecord, str]:
        """Another secret; the present one holds for `grace_s` more. Raises: NotFound, Conflict."""
        by.require("admin")
        record, secret = self._credentials.rotate(self._credentials.find(name).id, grace_s=grace_s)
        self._audit.note(by, "key.rotate", record.id, grace_s=grace_s)
        return record, secret

    def revoke(self, name: str, *, by: KeyRecord) -> KeyRecord:
        """End a key at once. Idempotent. Raises: NotFound, Conflict."""
        by.require("admin")
        record = self._credentials.revoke(self._credentials.find(name).id)
        self._audit.note(by, "key.revoke", record.id)
        return record
