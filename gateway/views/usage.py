"""What keys have used, as both faces report it."""

from __future__ import annotations

from typing import Any

from gateway.access.api_keys import Credentials
from gateway.access.key_record import KeyRecord
from gateway.jobs.ledger import Ledger, total
from gateway.views.api_keys import visible_keys
from schemas.usage import UsageQuery


def usage(ledger: Ledger, credentials: Credentials, query: UsageQuery, *, key: KeyRecord) -> dict[str, Any]:
    """The report that this key may see: of itself; an admin's of all keys, or of the one that it names.

    Raises:
        PermissionDenied, NotFound, Conflict.
    """
    names = visible_keys(credentials, query.key_id, key)
    rows = ledger.report(list(names), start=query.start, end=query.end, model=query.model)
    return {
        "from": query.start.isoformat(timespec="seconds"),
        "to": query.end.isoformat(timespec="seconds"),
        "usage": [{**row.to_public(), "key_name": names[row.key_id]} for row in rows],
        "total": total(rows),
    }
