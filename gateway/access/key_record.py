"""One API key as it is stored, without its secret."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway.errors import Conflict, NotFound, PermissionDenied, Unauthenticated, Unreadable
from gateway.store.codec import MAX_COUNT, build, loads
from schemas.base.times import iso_seconds

#: The last second that `datetime` can represent: the end of the year 9999.
MAX_S = 253_402_300_799


#: Ids that an error names.
MAX_NAMED = 20


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
    #: When it got another secret, and until when the one before holds; 0: never, not any more.
    rotated_at: int = 0
    old_secret_until: int = 0

    @property
    def status(self) -> str:
        """`active`, `expired` or `revoked`."""
        if self.revoked_at:
            return "revoked"
        return "expired" if 0 < self.expires_at <= time.time() else "active"

    def require_active(self) -> None:
        """Raises: Unauthenticated if it was revoked, or has expired."""
        if self.status == "revoked":
            raise Unauthenticated(f"Key {self.prefix}… was revoked. Ask for a new one.", reason="api_key_revoked")
        if self.status == "expired":
            raise Unauthenticated(
                f"Key {self.prefix}… expired at {iso_seconds(self.expires_at)}. Ask for a new one.",
                reason="api_key_expired",
            )

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


_TIMES = ("created_at", "expires_at", "revoked_at", "rotated_at", "old_secret_until")
_NUMBERS = ("requests_per_minute", "tokens_per_minute", "weight", *_TIMES)


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
    if not all(0 <= number <= (MAX_S if name in _TIMES else MAX_COUNT) for name, number in numbers.items()):
        raise Unreadable("It has a number that can't be.")
    return record


def called(known: Sequence[KeyRecord], name: str) -> KeyRecord:
    """The one key with that id, name or prefix: an id goes first, and active keys before others.

    Raises:
        NotFound: there is none.
        Conflict: there are several; the text has their ids.
    """
    found = [key for key in known if key.id == name] or [key for key in known if key.name == name]
    found = found or [key for key in known if key.prefix == name and not key.revoked_at]
    found = [key for key in found if key.status == "active"] or found
    if not found:
        raise NotFound(
            f"There is no key with the id or name {name!r:.120}; GET /keys lists them.", reason="key_not_found"
        )
    if len(found) > 1:
        ids = ", ".join(key.id for key in found[:MAX_NAMED])
        raise Conflict(
            f"{len(found)} keys are called {name!r:.120}; name one by its id: {ids}.", reason="key_ambiguous"
        )
    return found[0]
