"""API keys: made once, shown once, stored as SHA-256 (the secrets are random, so no slow hash is needed)."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

import redis

from gateway import keys
from gateway.errors import NotFound, PermissionDenied, Unauthenticated

#: What a key may be allowed to do.
SCOPES = ("inference", "deploy", "admin")


@dataclass(frozen=True)
class KeyRecord:
    """A key without its secret. `prefix` is the part that may be shown."""

    id: str
    name: str
    prefix: str
    scopes: tuple[str, ...]
    created_at: int

    def require(self, scope: str) -> None:
        """Raises: PermissionDenied if the key lacks the scope (`admin` has them all)."""
        if scope not in self.scopes and "admin" not in self.scopes:
            raise PermissionDenied(f"Key {self.prefix}… lacks the scope {scope!r}; it has {', '.join(self.scopes)}.")


class Credentials:
    """Creates, finds and revokes keys."""

    def __init__(self, client: redis.Redis) -> None:
        self.redis = client

    def create(self, name: str, scopes: Iterable[str] = ("inference",), secret: str = "") -> tuple[KeyRecord, str]:
        """Make a key; returns its record and the secret, which is not kept."""
        secret = secret or f"hr-{secrets.token_urlsafe(32)}"
        digest = _digest(secret)
        record = KeyRecord(digest[:16], name, secret[:7], tuple(scopes), int(time.time()))
        fields: dict[Any, Any] = {
            "id": record.id,
            "name": name,
            "prefix": record.prefix,
            "scopes": ",".join(record.scopes),
            "created_at": str(record.created_at),
        }
        self.redis.hset(keys.api_key(digest), mapping=fields)
        self.redis.hset(keys.API_KEYS, record.id, digest)
        return record, secret

    def bootstrap(self, secret: str) -> KeyRecord:
        """Make sure that the first admin key exists."""
        return self.create("bootstrap", ("admin",), secret)[0]

    def authenticate(self, secret: str | None) -> KeyRecord:
        """Raises: Unauthenticated, saying whether the key is missing or wrong."""
        if not secret:
            raise Unauthenticated("No API key. Send the header 'Authorization: Bearer YOUR_KEY'.", reason="no_api_key")
        record = self._load(_digest(secret))
        if record is None:
            raise Unauthenticated("This API key is unknown or was revoked. Make one with 'headrace key create'.")
        return record

    def list(self) -> list[KeyRecord]:
        """All keys, oldest first."""
        digests = cast("list[str]", self.redis.hvals(keys.API_KEYS))
        records = [record for record in map(self._load, digests) if record]
        return sorted(records, key=lambda record: record.created_at)

    def revoke(self, id_or_prefix: str) -> KeyRecord:
        """Remove a key at once.

        Raises:
            NotFound: no key, or more than one, has this id or prefix.
        """
        found = [key for key in self.list() if id_or_prefix in (key.id, key.prefix)]
        if len(found) != 1:
            raise NotFound(f"{len(found)} keys match {id_or_prefix!r}; name one by its id (see 'headrace key list').")
        digest = self.redis.hget(keys.API_KEYS, found[0].id)
        self.redis.delete(keys.api_key(str(digest)))
        self.redis.hdel(keys.API_KEYS, found[0].id)
        return found[0]

    def _load(self, digest: str) -> KeyRecord | None:
        raw = cast("dict[str, str]", self.redis.hgetall(keys.api_key(digest)))
        if not raw:
            return None
        scopes = tuple(raw["scopes"].split(","))
        return KeyRecord(raw["id"], raw["name"], raw["prefix"], scopes, int(raw["created_at"]))


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
