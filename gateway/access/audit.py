"""The audit log: who has changed keys, models, deployments and jobs of others, when, through which face. No secrets.

Knows nothing of what was changed. The newest entries stay; older ones go as others come.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple, cast

import redis

from gateway.access.key_record import KeyRecord
from gateway.errors import InvalidRequest
from gateway.store import keys
from gateway.store.checks import MAX_MS
from gateway.store.codec import dumps, load_as
from gateway.store.connection import NOT_NOW
from gateway.store.unreadable import readable
from schemas.base.times import iso

log = logging.getLogger(__name__)

#: About how many entries are kept.
MAX_ENTRIES = 10_000
_CURSOR = re.compile(r"\d{1,15}-\d{1,10}", re.ASCII)


@dataclass(frozen=True)
class AuditEntry:
    """One change that was made."""

    #: Such as `key.create`.
    action: str
    #: Id of the key, model or deployment that was changed.
    target: str
    #: Id and name of the API key of who did it; without an id it was somebody with access to the gateway's machine.
    key_id: str
    key_name: str
    #: `rest`, `grpc`, or `cli` where a command has changed it in Redis.
    face: str
    details: Mapping[str, Any] = field(default_factory=dict)


class AuditPage(NamedTuple):
    """Entries as admins see them, newest first, and the cursor behind them; None: there are no others."""

    entries: list[dict[str, Any]]
    cursor: str | None


class AuditLog:
    """Writes what is changed through one face, and reads what was through all."""

    def __init__(self, client: redis.Redis, face: str) -> None:
        self._redis = client
        self._face = face

    def note(self, key: KeyRecord, action: str, target: str, **details: Any) -> None:
        """Note a change that was just made. Where Redis can't take it, the process' own log has it."""
        entry = dumps(asdict(AuditEntry(action, target, key.id, key.name, self._face, details)))
        try:
            self._redis.xadd(keys.AUDIT, {"e": entry}, maxlen=MAX_ENTRIES, approximate=True)
        except NOT_NOW as error:
            log.error("not in the audit log (%s): %s", error, entry)

    def page(self, *, limit: int, cursor: str) -> AuditPage:
        """The next entries behind a cursor, or from the newest on. Raises: InvalidRequest."""
        if cursor and not _CURSOR.fullmatch(cursor):
            raise InvalidRequest.of_cursor(cursor)
        reply = self._redis.xrevrange(keys.AUDIT, f"({cursor}" if cursor else "+", "-", count=limit + 1)
        found = cast("list[tuple[str, dict[str, str]]]", reply)
        named = [(f"Entry {entry_id} of the audit log", (entry_id, fields)) for entry_id, fields in found[:limit]]
        entries = [entry for _, entry in readable(named, _shown)]
        return AuditPage(entries, found[limit - 1][0] if len(found) > limit else None)


def _shown(named: tuple[str, Mapping[str, str]]) -> dict[str, Any]:
    entry_id, fields = named
    entry = load_as(AuditEntry, fields.get("e", ""))
    return {"id": entry_id, "at": iso(min(MAX_MS, int(entry_id.partition("-")[0]))), **asdict(entry)}
