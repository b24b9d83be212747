"""The first admin key: given (`HEADRACE_BOOTSTRAP_KEY`), or made and kept in a data folder."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from typing import cast

from gateway.access.api_keys import Credentials, KeyRecord
from gateway.access.key_secrets import require_strong
from gateway.errors import Conflict, NotFound
from gateway.settings import Settings
from gateway.store import keys

log = logging.getLogger(__name__)

#: Where a key comes from that was given. Others come from the data folder of a node.
SETTING = "setting"


def origins(settings: Settings) -> tuple[str, ...]:
    """Of the key in this data folder: whose last one it takes the place of."""
    node = f"node:{settings.node}"
    return (SETTING, node) if settings.bootstrap_key else (node,)


def bootstrap_given(credentials: Credentials, settings: Settings) -> None:
    """Make the key that the setting names, if it does. One that can't be it is logged: the others still serve."""
    if not settings.bootstrap_key:
        return
    try:
        bootstrap(credentials, settings.bootstrap_key)
    except Conflict as error:
        log.error("HEADRACE_BOOTSTRAP_KEY: %s Set it to a new secret.", error.message)


def bootstrap(credentials: Credentials, secret: str, *origins: str) -> KeyRecord:
    """Make the key, unless it is there. What these origins (else the setting) have named before is not to be used any
    more: the key gets this secret in the place of its own, or is revoked, if this secret has a key of its own.

    Raises:
        InvalidSetting: it is too easy to guess.
        Conflict: it can't be the first admin key, since it was revoked or replaced, or is no admin's; nothing changes.
    """
    require_strong(secret)
    origins = origins or (SETTING,)
    record = _usable(credentials, secret)
    before = [
        found for found in cast("list[str | None]", credentials.redis.hmget(keys.BOOTSTRAP_KEYS, origins)) if found
    ]
    if record is None:
        record = _succeed(credentials, before, secret)
    credentials.redis.hset(keys.BOOTSTRAP_KEYS, mapping=dict.fromkeys(origins, record.id))
    for key_id in set(before) - {record.id}:
        credentials.revoke(key_id)
        log.warning("%s has taken the place of bootstrap key %s, which was revoked", record.id, key_id)
    return record


def _usable(credentials: Credentials, secret: str) -> KeyRecord | None:
    """The admin key that has this secret; None: there is no such key yet. Raises: Conflict."""
    record = credentials.of_secret(secret)
    if record and record.status != "active":
        raise Conflict(f"This key, {record.name!r}, is {record.status}.")
    if record and "admin" not in record.scopes:
        raise Conflict(f"This key, {record.name!r}, is no admin's.")
    return record


def _succeed(credentials: Credentials, before: Sequence[str], secret: str) -> KeyRecord:
    """The first of these keys that is active, with this secret; else a new one."""
    for key_id in before:
        with contextlib.suppress(NotFound, Conflict):
            if credentials.get(key_id).status != "active":
                continue
            record, _ = credentials.rotate(key_id, secret)
            log.warning("the bootstrap key %s has another secret; the one before was ended", record.id)
            return record
    return credentials.create("bootstrap", ("admin",), secret)[0]
