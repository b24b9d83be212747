"""API keys: made once, shown once, changed, given other secrets, and revoked.

A key that was revoked or has expired keeps its record, so that its usage can still be read. One that gets another
secret keeps its id, its jobs and its usage.
"""

from __future__ import annotations

import builtins
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

import redis

from gateway.access.key_record import KeyRecord, called
from gateway.access.key_secrets import digest_of, new_secret, prefix_of
from gateway.errors import Conflict, NotFound, Unauthenticated
from gateway.store import keys
from gateway.store.cached import Cached
from gateway.store.codec import dumps
from gateway.store.connection import pipeline
from gateway.store.installation import Installation
from gateway.store.scripts import Scripts
from gateway.store.unreadable import readable, reading

__all__ = ["Credentials", "KeyRecord"]

#: The field that only what is left of an old secret has: its key's id.
REPLACED = "replaced_secret_of"
#: How often a change is tried again, if the key gets another secret at that moment.
TRIES = 5


class Credentials:
    """Creates, finds, changes and revokes keys."""

    def __init__(self, client: redis.Redis, installation: Installation | None = None) -> None:
        self.redis = client
        self._installation = installation
        self._scripts = Scripts(client)
        self._assumed: Cached[str] = Cached()

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
        secret = secret or new_secret()
        digest = digest_of(secret)
        fields: dict[str, str | int] = {
            "id": digest[:16],
            "name": name,
            "prefix": prefix_of(secret),
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

    def authenticate(self, secret: str | None) -> KeyRecord:
        """Raises: Unauthenticated, saying whether it is missing, wrong, expired, revoked or replaced; StoreLost."""
        if not secret:
            raise Unauthenticated("No API key. Send the header 'Authorization: Bearer YOUR_KEY'.", reason="no_api_key")
        return self.of_digest(digest_of(secret))

    def of_digest(self, digest: str) -> KeyRecord:
        """The same by the digest of a secret."""
        commands = [("HGETALL", keys.api_key(digest)), ("GET", keys.INSTALLATION)]
        raw, installation = pipeline(self.redis, commands, raise_on_error=False)
        with reading("The record of this API key"):
            for reply in (raw, installation):
                if isinstance(reply, Exception):
                    raise reply
            self._require_store(installation)
            record = KeyRecord.parse(raw) if raw and REPLACED not in raw else None
        if raw and record is None:
            record = self._replaced(digest, raw)
        if record is None:
            raise Unauthenticated("This API key is unknown. Make one with 'headrace key create'.")
        record.require_active()
        return record

    def _replaced(self, digest: str, raw: Mapping[str, str]) -> KeyRecord:
        """The key of an old secret, if that still holds. Raises: Unauthenticated."""
        present, record = self._read(cast("str | None", self.redis.hget(keys.API_KEYS, raw.get(REPLACED, ""))))
        if record and present.get("old_digest") == digest and record.old_secret_until > time.time():
            return record
        whose = f"of key {record.name!r} " if record else ""
        raise Unauthenticated(f"This secret {whose}was replaced by another one; send that.", reason="api_key_replaced")

    def of_secret(self, secret: str) -> KeyRecord | None:
        """The key with this secret, whatever its status. Raises: Conflict if it was replaced by another secret."""
        raw, record = self._read(digest_of(secret))
        if REPLACED in raw:
            raise Conflict("This secret was replaced by another one.")
        return record

    def assume(self, name: str) -> KeyRecord:
        """The key, by id or name, that calls without a key act as. Raises: Unauthenticated, StoreLost."""
        self._require_store(cast("str | None", self.redis.get(keys.INSTALLATION)))
        try:
            record = self.get(self._assumed.get(lambda: self.find(name).id))
        except (NotFound, Conflict) as error:
            raise Unauthenticated(f"No API key, and the one to act as is not there: {error.message}") from error
        record.require_active()
        return record

    def list(self) -> list[KeyRecord]:
        """All keys, oldest first, without those that can't be read."""
        digests = cast("dict[str, str]", self.redis.hgetall(keys.API_KEYS))
        raws = pipeline(self.redis, [("HGETALL", keys.api_key(d)) for d in digests.values()], raise_on_error=False)
        named = [(f"The record of API key {key_id}", raw) for key_id, raw in zip(digests, raws, strict=True) if raw]
        records = [record for _, record in readable(named, KeyRecord.parse)]
        return sorted(records, key=lambda record: (record.created_at, record.id))

    def ids(self) -> Sequence[str]:
        """Of all keys, also of those that can't be read."""
        return cast("builtins.list[str]", self.redis.hkeys(keys.API_KEYS))

    def get(self, key_id: str) -> KeyRecord:
        """Raises: NotFound."""
        return self._find(key_id)[1]

    def find(self, name: str) -> KeyRecord:
        """The key with this id, name or prefix. Raises: NotFound; Conflict if there are several."""
        try:
            return self.get(name)
        except NotFound:
            return called(self.list(), name)

    def update(self, key_id: str, changes: Mapping[str, Any]) -> KeyRecord:
        """Change any of `name`, `models`, the limits and `expires_at`. It takes effect with the next request.

        Raises:
            NotFound: there is no such key.
            Conflict: it was revoked.
        """
        fields = {name: dumps(list(value)) if name == "models" else value for name, value in changes.items()}

        def change(digest: str, record: KeyRecord) -> str:
            _require_changeable(record)
            return self._write(key_id, digest, fields)

        return self._change(key_id, change)

    def revoke(self, key_id: str) -> KeyRecord:
        """Revoke a key at once, with all its secrets; this can't be undone. Raises: NotFound."""
        now = int(time.time())
        return self._change(
            key_id, lambda digest, record: record.revoked_at or self._write(key_id, digest, {"revoked_at": now})
        )

    def rotate(self, key_id: str, secret: str = "", *, grace_s: int = 0) -> tuple[KeyRecord, str]:
        """Give a key another secret, a new one unless it is given. The present one holds for `grace_s` more, and one
        before it no longer. Returns the record and the secret, which is not stored.

        Raises:
            NotFound: there is no such key.
            Conflict: it was revoked, or the secret is, or was, that of a key.
        """
        secret, now = secret or new_secret(), int(time.time())
        digest = digest_of(secret)

        def change(old: str, record: KeyRecord) -> str:
            _require_changeable(record)
            names = [keys.api_key(old), keys.api_key(digest), keys.API_KEYS]
            until = now + grace_s if grace_s else 0
            verdict = self._scripts.run("rotate_key", names, key_id, old, digest, prefix_of(secret), now, until)
            if verdict == "taken":
                raise Conflict("This secret is, or was, that of a key. Make a new one.")
            return str(verdict)

        return self._change(key_id, change), secret

    def _write(self, key_id: str, digest: str, fields: Mapping[str, Any]) -> str:
        """Returns `moved` if the key has got another secret meanwhile."""
        flat = [part for pair in fields.items() for part in pair]
        return str(self._scripts.run("change_key", [keys.api_key(digest), keys.API_KEYS], key_id, digest, *flat))

    def _change(self, key_id: str, change: Callable[[str, KeyRecord], object]) -> KeyRecord:
        """Change a key, again if it gets another secret at that moment, and return it."""
        for _ in range(TRIES):
            if change(*self._find(key_id)) != "moved":
                return self._find(key_id)[1]
        raise Conflict(f"Key {key_id} gets other secrets again and again. Try it later.")

    def _find(self, key_id: str) -> tuple[str, KeyRecord]:
        digest = cast("str | None", self.redis.hget(keys.API_KEYS, key_id))
        _, record = self._read(digest)
        if digest is None or record is None:
            raise NotFound(f"There is no key with the id {key_id!r}; GET /keys lists them.", reason="key_not_found")
        return digest, record

    def _require_store(self, found: str | None) -> None:
        """Raises: StoreLost if Redis lost its data: then an unknown key may be a valid one."""
        if self._installation:
            self._installation.require(found)

    def _read(self, digest: str | None) -> tuple[dict[str, str], KeyRecord | None]:
        """What lies at a secret's digest, and the record, if it is one."""
        if not digest:
            return {}, None
        with reading(f"The record of API key {digest[:16]}"):
            (raw,) = pipeline(self.redis, [("HGETALL", keys.api_key(digest))])
            return raw, KeyRecord.parse(raw) if raw and REPLACED not in raw else None


def _require_changeable(record: KeyRecord) -> None:
    if record.revoked_at:
        raise Conflict(f"Key {record.prefix}… was revoked and can't be changed. Make a new one.")
