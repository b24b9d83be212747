"""Tokens with which machines join. Only their hash is stored; each is valid for a time, and for some machines.

A machine that joins again under the same name uses a token up once.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import redis

from gateway.access.key_record import MAX_S
from gateway.access.key_secrets import digest_of
from gateway.errors import NotFound, Unauthenticated, Unreadable
from gateway.store import keys
from gateway.store.connection import pipeline
from gateway.store.unreadable import readable, reading
from schemas.base.times import iso_seconds

#: An ended token is listed for so long, in seconds.
KEPT_S = 86_400
_NODE = "node:"


@dataclass(frozen=True)
class JoinToken:
    """A token without its secret. Times are seconds since the epoch, by Redis' clock."""

    id: str
    created_at: int
    expires_at: int
    #: Machines that it lets in; 0: any number.
    uses: int = 1
    revoked_at: int = 0
    #: The machines that have used it.
    nodes: tuple[str, ...] = ()

    def status(self, now_s: float) -> str:
        """`active`, `expired`, `used` or `revoked`."""
        if self.revoked_at:
            return "revoked"
        if now_s >= self.expires_at:
            return "expired"
        return "used" if 0 < self.uses <= len(self.nodes) else "active"

    def to_public(self, now_s: float) -> dict[str, Any]:
        """As admins see it."""
        return {
            "id": self.id,
            "status": self.status(now_s),
            "created_at": iso_seconds(self.created_at),
            "expires_at": iso_seconds(self.expires_at),
            "uses": self.uses,
            "nodes": list(self.nodes),
        }


class JoinTokens:
    """Makes, lists, revokes and redeems them. `now_s` is Redis' clock."""

    def __init__(self, client: redis.Redis, now_s: Callable[[], float]) -> None:
        self._redis = client
        self.now_s = now_s

    def create(self, *, ttl_s: int, uses: int) -> tuple[JoinToken, str]:
        """Make a token. Returns it, and the secret, which is not stored."""
        secret, now = secrets.token_hex(20), int(self.now_s())
        digest = digest_of(secret)
        token = JoinToken(digest[:12], now, now + ttl_s, uses)
        fields = {"created_at": now, "expires_at": token.expires_at, "uses": uses}
        name = keys.join_token(digest)
        pipeline(
            self._redis,
            [
                ("HSET", name, *(str(part) for pair in fields.items() for part in pair)),
                ("EXPIREAT", name, token.expires_at + KEPT_S),
                ("HSET", keys.JOIN_TOKENS, token.id, digest),
            ],
        )
        return token, secret

    def all(self) -> list[JoinToken]:
        """All that are kept, newest first."""
        digests = cast("dict[str, str]", self._redis.hgetall(keys.JOIN_TOKENS))
        raws = pipeline(self._redis, [("HGETALL", keys.join_token(d)) for d in digests.values()], raise_on_error=False)
        gone = [token_id for token_id, raw in zip(digests, raws, strict=True) if not raw]
        if gone:
            self._redis.hdel(keys.JOIN_TOKENS, *gone)
        named = [(f"Join token {i}", (i, raw)) for i, raw in zip(digests, raws, strict=True) if raw]
        found = [token for _, token in readable(named, _parsed)]
        return sorted(found, key=lambda token: token.created_at, reverse=True)

    def revoke(self, token_id: str) -> JoinToken:
        """End a token at once. Idempotent. Machines that have joined stay. Raises: NotFound."""
        digest = cast("str | None", self._redis.hget(keys.JOIN_TOKENS, token_id))
        token = self._load(digest) if digest else None
        if digest is None or token is None:
            raise NotFound(
                f"There is no join token {token_id!r}; GET /join-tokens lists them.", reason="token_not_found"
            )
        self._redis.hsetnx(keys.join_token(digest), "revoked_at", str(int(self.now_s())))
        return self._load(digest) or token

    def redeem(self, secret: str, node: str) -> None:
        """Let a machine in, once or again.

        Raises:
            Unauthenticated: the token is unknown, expired, revoked, or used up by others.
        """
        name = keys.join_token(digest_of(secret))
        with self._redis.pipeline() as pipe:
            while True:
                try:
                    pipe.watch(name)
                    self._require_good(_read_token(pipe, name), node)
                    pipe.multi()
                    pipe.hset(name, f"{_NODE}{node}", str(int(self.now_s())))
                    pipe.execute()
                except redis.exceptions.WatchError:  # another one has just used it
                    continue
                return

    def _require_good(self, token: JoinToken | None, node: str) -> None:
        make = "Make one with 'headrace token create'."
        if token is None:
            raise Unauthenticated(f"The gateway does not know this token. {make}", reason="invalid_join_token")
        status = token.status(self.now_s())
        if status == "active" or (status == "used" and node in token.nodes):
            return
        if status == "expired":
            at = iso_seconds(token.expires_at)
            raise Unauthenticated(f"Token {token.id} expired at {at}. {make}", reason="join_token_expired")
        if status == "revoked":
            raise Unauthenticated(f"Token {token.id} was revoked. {make}", reason="join_token_revoked")
        who = ", ".join(token.nodes)
        raise Unauthenticated(
            f"Token {token.id} has let in {who}, and lets in no more. {make}", reason="join_token_used"
        )

    def _load(self, digest: str) -> JoinToken | None:
        with reading(f"Join token {digest[:12]}"):
            (raw,) = pipeline(self._redis, [("HGETALL", keys.join_token(digest))])
            return _parsed((digest[:12], raw)) if raw else None


def _read_token(pipe: redis.client.Pipeline, name: str) -> JoinToken | None:
    token_id = name.rpartition(":")[2][:12]
    with reading(f"Join token {token_id}"):
        raw = cast("dict[str, str]", pipe.hgetall(name))
        return _parsed((token_id, raw)) if raw else None


def _parsed(named: tuple[str, Mapping[str, str]]) -> JoinToken:
    """Raises: Unreadable."""
    token_id, raw = named
    if isinstance(raw, Exception):
        raise raw
    try:
        numbers = {name: int(raw.get(name) or 0) for name in ("created_at", "expires_at", "uses", "revoked_at")}
    except ValueError as error:
        raise Unreadable(f"It is damaged: {error}.") from error
    if not all(0 <= number <= MAX_S for number in numbers.values()):
        raise Unreadable("It has a number that can't be.")
    nodes = sorted(name.removeprefix(_NODE) for name in raw if name.startswith(_NODE))
    return JoinToken(token_id, nodes=tuple(nodes), **numbers)
