"""What keys have used, as both faces report it."""

from __future__ import annotations

from typing import Any

from gateway.access.api_keys import Credentials
from gateway.access.key_record import KeyRecord
from gateway.jobs.ledger import Ledger, total
from schemas.usage import UsageQuery


def usage(ledger: Ledger, credentials: Credentials, query: UsageQuery, *, key: KeyRecord) -> dict[str, Any]:
    """The report that this key may see: of itself; an admin's of all keys, or of the one that it names.

    Raises:
        PermissionDenied, NotFound, Conflict.
    """
    names = _keys(credentials, query, key)
    rows = ledger.report(list(names), start=query.start, end=query.end, model=query.model)
    return {
        "from": query.start.isoformat(timespec="seconds"),
        "to": query.end.isoformat(timespec="seconds"),
        "usage": [{**row.to_public(), "key_name": names[row.key_id]} for row in rows],
        "total": total(rows),
    }


def _keys(credentials: Credentials, query: UsageQuery, key: KeyRecord) -> dict[str, str]:
    """The keys to report, and their names."""
    if "admin" not in key.scopes:
        if query.key_id not in (None, key.id, key.name):
            key.require("admin")
        return {key.id: key.name}
    found = credentials.list() if query.key_id is None else [credentials.find(query.key_id)]
    return {record.id: record.name for record in found}
