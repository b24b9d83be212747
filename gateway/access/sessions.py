"""Sessions of people who have signed in with an API key from a browser. One ends with the secret it was begun with."""

from __future__ import annotations

import contextlib
import secrets
import time
from dataclasses import dataclass
from typing import cast

import redis

from gateway.access.api_keys import Credentials, KeyRecord
from gateway.access.audit import AuditLog
from gateway.access.key_secrets import digest_of
from gateway.errors import Unauthenticated
from gateway.store import keys

#: Sessions of one key at once; the oldest ends when there is one more.
MAX_SESSIONS = 100


@dataclass(frozen=True)
class Session:
    """One that has just begun. The token is not stored. `expires_at`: seconds since the epoch."""

    token: str
    expires_at: int


class Sessions:
    """Begins, finds and ends them. Redis has a token's digest, and with it that of the secret.

    The audit log notes those of keys that may change something; others could fill it.
    """

    def __init__(self, client: redis.Redis, credentials: Credentials, audit: AuditLog, *, ttl_s: float) -> None:
        self._redis = client
        self._credentials = credentials
        self._audit = audit
        self._ttl_s = max(1, int(ttl_s))

    def begin(self, secret: str) -> Session:
        """Sign in with a key. Raises: as `Credentials.authenticate`."""
        key = self._credentials.authenticate(secret)
        now = time.time()
        session = Session(secrets.token_urlsafe(32), int(now) + self._ttl_s)
        of_key, name = keys.sessions(key.id), keys.session(digest_of(session.token))
        pipe = self._redis.pipeline(transaction=True)
        pipe.set(name, digest_of(secret), ex=self._ttl_s)
        pipe.zadd(of_key, {name: now + self._ttl_s})
        pipe.zremrangebyscore(of_key, "-inf", now)
        pipe.expire(of_key, self._ttl_s)
        pipe.zrange(of_key, 0, -MAX_SESSIONS - 1)
        surplus = cast("list[str]", pipe.execute()[-1])
        if surplus:
            self._redis.delete(*surplus)
            self._redis.zrem(of_key, *surplus)
        self._note(key, "session.begin")
        return session

    def authenticate(self, token: str) -> KeyRecord:
        """The key of a session. Raises: Unauthenticated if it has ended, or its key has; StoreLost."""
        digest = cast("str | None", self._redis.get(keys.session(digest_of(token))))
        if digest is None:
            raise Unauthenticated("This session has ended. Sign in again.", reason="session_ended")
        return self._credentials.of_digest(digest)

    def end(self, token: str) -> None:
        """Sign out. Once more does no harm."""
        digest = cast("str | None", self._redis.getdel(keys.session(digest_of(token))))
        if digest:
            with contextlib.suppress(Unauthenticated):  # the key has ended before
                self._note(self._credentials.of_digest(digest), "session.end")

    def _note(self, key: KeyRecord, action: str) -> None:
        if key.allows("deploy"):
            self._audit.note(key, action, key.id)
