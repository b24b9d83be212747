"""API keys: made once, shown once, stored as SHA-256 (the secrets are random, so no slow hash is needed).

A key that was revoked or has expired keeps its record, so that its usage can still be read.
"""

from __future__ import annotations

import functools
import hashlib
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import redis

from gateway.errors import Conflict, NotFound, PermissionDenied, Unauthenticated, Unreadable
from gateway.store import keys
from gateway.store.codec import MAX_COUNT, build, dumps, loads
from gateway.store.connection import pipeline
from gateway.store.installation import Installation
from gateway.store.unreadable import readable, reading
from schemas.base.times import iso_seconds

#: The last second that `datetime` can represent: the end of the year 9999.
MAX_S = 253_402_300_799
#: Characters of a secret that are shown, at most a third of it.
PREFIX_LENGTH = 7


@dataclass(frozen=True)
class KeyRecord:
    """A key without its secret. `prefix` is the part that may be shown. Times are seconds since the epoch."""

    id: str
    name: str
    prefix: str
    scopes: tuple[str, ...]
    created_at: int
    #: Models that it may use; empty: all.
    models: tuple[str, ...] = ()
    #: Limits over any 60 s; 0: none.
    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    #: How much it is served, next to other keys, where several wait for a model.
    weight: int = 1
    #: 0: never.
    expires_at: int = 0
    revoked_at: int = 0

    @property
    def status(self) -> str:
        """`active`, `expired` or `revoked`."""
        if self.revoked_at:
            return "revoked"
        return "expired" if 0 < self.expires_at <= time.time() else "active"

    @property
    def limited(self) -> bool:
        """Whether the key has limits, so that its requests must be counted."""
        return bool(self.requests_per_minute or self.tokens_per_minute)

    def allows(self, scope: str) -> bool:
        """Whether the key has the scope; `admin` has them all."""
        return scope in self.scopes or "admin" in self.scopes

    def require(self, scope: str) -> None:
        """Raises: PermissionDenied if the key lacks the scope."""
        if not self.allows(scope):
            raise PermissionDenied(f"Key {self.prefix}… lacks the scope {scope!r}; it has {', '.join(self.scopes)}.")

    def may_use(self, model_id: str) -> bool:
        """Whether the key may ask this model, see it, and deploy it if it may deploy at all."""
        return not self.models or model_id in self.models

    def require_model(self, model_id: str) -> None:
        """Raises: PermissionDenied if the key may not use this model."""
        if not self.may_use(model_id):
            allowed = ", ".join(self.models)
            raise PermissionDenied(
                f"Key {self.prefix}… may not use model {model_id!r}; it may use {allowed}.", reason="model_not_allowed"
            )

    @classmethod
    def parse(cls, raw: Mapping[str, str]) -> KeyRecord:
        """Build from the hash's fields. Raises: Unreadable."""
        return _parsed(tuple(raw.items()))


_NUMBERS = ("created_at", "requests_per_minute", "tokens_per_minute", "weight", "expires_at", "revoked_at")


@functools.lru_cache(1024)
def _parsed(items: tuple[tuple[str, str], ...]) -> KeyRecord:
    """The record of fields: they are read with each request, and seldom change."""
    raw = dict(items)
    try:
        numbers = {name: int(raw.get(name) or 0) for name in _NUMBERS}
        numbers["weight"] = numbers["weight"] or 1
        fields = {**raw, "scopes": raw["scopes"].split(","), "models": loads(raw.get("models") or "[]"), **numbers}
    except (KeyError, ValueError) as error:
        raise Unreadable(f"It is damaged: {error!r}.") from error
    record = build(KeyRecord, fields)
    if not all(0 <= number <= (MAX_S if name.endswith("_at") else MAX_COUNT) for name, number in numbers.items()):
        raise Unreadable("It has a number that can't be.")
    return record


class Credentials:
    """Creates, finds, changes and revokes keys."""

    def __init__(self, client: redis.Redis, installation: Installation | None = None) -> None:
        self.redis = client
        self._installation = installation

    def create(
        self,
        name: str,
        scopes: Iterable[str] = ("inference",),
        secret: str = "",
        *,
        models: Sequence[str] = (),
        requests_per_minute: int = 0,
        tokens_per_minute: int = 0,
        weight: int = 1,
        expires_at: int = 0,
    ) -> tuple[KeyRecord, str]:
        """Make a key. Returns its record and the secret, which is not stored."""
        secret = secret or f"hr-{secrets.token_urlsafe(32)}"
        digest = _digest(secret)
        fields: dict[str, str | int] = {
            "id": digest[:16],
            "name": name,
            "prefix": secret[: min(PREFIX_LENGTH, len(secret) // 3)],
            "scopes": ",".join(dict.fromkeys(scopes)),
            "created_at": int(time.time()),
            "models": dumps(list(dict.fromkeys(models))),
            "requests_per_minute": requests_per_minute,
            "tokens_per_minute": tokens_per_minute,
            "weight": weight,
            "expires_at": expires_at,
        }
        self.redis.hset(keys.api_key(digest), mapping=cast("dict[Any, Any]", fields))
        self.redis.hset(keys.API_KEYS, digest[:16], digest)
        return KeyRecord.parse({field: str(value) for field, value in fields.items()}), secret

    def bootstrap(self, secret: str) -> KeyRecord:
        """Make the first admin key unless it exists. An existing one stays as it is, even if it is revoked."""
        return self._load(_digest(secret)) or self.create("bootstrap", ("admin",), secret)[0]

    def authenticate(self, secret: str | None) -> KeyRecord:
        """Raises: Unauthenticated, saying whether the key is missing, wrong, expired or revoked; StoreLost."""
        if not secret:
            raise Unauthenticated("No API key. Send the header 'Authorization: Bearer YOUR_KEY'.", reason="no_api_key")
        commands = [("HGETALL", keys.api_key(_digest(secret))), ("GET", keys.INSTALLATION)]
        raw, installation = pipeline(self.redis, commands, raise_on_error=False)
        with reading("The record of this API key"):
            for reply in (raw, installation):
                if isinstance(reply, Exception):
                    raise reply
            self._require_store(installation)
            record = KeyRecord.parse(raw) if raw else None
        if record is None:
            raise Unauthenticated("This API key is unknown. Make one with 'headrace key create'.")
        _require_active(record)
        return record

    def assume(self, key_id: str) -> KeyRecord:
        """The key that calls without a key act as. Raises: Unauthenticated, StoreLost."""
        self._require_store(cast("str | None", self.redis.get(keys.INSTALLATION)))
        try:
            record = self.get(key_id)
        except NotFound as error:
            raise Unauthenticated(f"No API key, and the one to act as, {key_id!r}, does not exist.") from error
        _require_active(record)
        return record

    def list(self) -> list[KeyRecord]:
        """All keys, oldest first, without those that can't be read."""
        digests = cast("dict[str, str]", self.redis.hgetall(keys.API_KEYS))
        raws = pipeline(self.redis, [("HGETALL", keys.api_key(d)) for d in digests.values()], raise_on_error=False)
        named = [(f"The record of API key {key_id}", raw) for key_id, raw in zip(digests, raws, strict=True) if raw]
        records = [record for _, record in readable(named, KeyRecord.parse)]
        return sorted(records, key=lambda record: (record.created_at, record.id))

    def get(self, key_id: str) -> KeyRecord:
        """Raises: NotFound."""
        return self._find(key_id)[1]

    def match(self, id_or_prefix: str) -> KeyRecord:
        """The key with this id, or the active key with this prefix. Raises: NotFound unless exactly one matches."""
        found = [
            key for key in self.list() if id_or_prefix == key.id or (id_or_prefix == key.prefix and not key.revoked_at)
        ]
        if len(found) != 1:
            raise NotFound(f"{len(found)} keys match {id_or_prefix!r}; name one by its id (see 'headrace key list').")
        return found[0]

    def update(self, key_id: str, changes: Mapping[str, Any]) -> KeyRecord:
        """Change any of `name`, `models`, the limits and `expires_at`. It takes effect with the next request.

        Raises:
            NotFound: there is no such key.
            Conflict: it was revoked.
        """
        digest, record = self._find(key_id)
        if record.revoked_at:
            raise Conflict(f"Key {record.prefix}… was revoked and can't be changed. Make a new one.")
        fields: dict[Any, Any] = {name: dumps(list(v)) if name == "models" else v for name, v in changes.items()}
        if fields:
            self.redis.hset(keys.api_key(digest), mapping=fields)
        return self._find(key_id)[1]

    def revoke(self, key_id: str) -> KeyRecord:
        """Revoke a key at once; this can't be undone. Raises: NotFound."""
        digest, _ = self._find(key_id)
        self.redis.hsetnx(keys.api_key(digest), "revoked_at", str(int(time.time())))
        return self._find(key_id)[1]

    def _find(self, key_id: str) -> tuple[str, KeyRecord]:
        digest = cast("str | None", self.redis.hget(keys.API_KEYS, key_id))
        record = self._load(digest) if digest else None
        if digest is None or record is None:
            raise NotFound(f"There is no key with the id {key_id!r}; GET /keys lists them.", reason="key_not_found")
        return digest, record

    def _require_store(self, found: str | None) -> None:
        """Raises: StoreLost if Redis lost its data: then an unknown key may be a valid one."""
        if self._installation:
            self._installation.require(found)

    def _load(self, digest: str) -> KeyRecord | None:
        with reading(f"The record of API key {digest[:16]}"):
            (raw,) = pipeline(self.redis, [("HGETALL", keys.api_key(digest))])
            return KeyRecord.parse(raw) if raw else None


def _require_active(record: KeyRecord) -> None:
    if record.status == "revoked":
        raise Unauthenticated(f"Key {record.prefix}… was revoked. Ask for a new one.", reason="api_key_revoked")
    if record.status == "expired":
        raise Unauthenticated(
            f"Key {record.prefix}… expired at {iso_seconds(record.expires_at)}. Ask for a new one.",
            reason="api_key_expired",
        )


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
