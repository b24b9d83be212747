"""What keys have used, as both faces report it."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from gateway.access.api_keys import Credentials
from gateway.access.key_record import KeyRecord
from gateway.jobs.ledger import Ledger, Usage, total
from gateway.views.api_keys import visible_keys
from schemas.usage import UsageQuery

#: The columns of the report as CSV.
COLUMNS = ("day", "key_id", "key_name", "model", "currency", *Usage("", "", "", "").counts(), "cost")
#: What spreadsheets take for the begin of a formula, https://owasp.org/www-community/attacks/CSV_Injection.
FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
#: A cost is a whole number of 10^-12.
PICO_DIGITS = 12


def usage(ledger: Ledger, credentials: Credentials, query: UsageQuery, *, key: KeyRecord) -> dict[str, Any]:
    """The report that this key may see: of itself; an admin's of all keys, or of the one that it names.

    Raises:
        PermissionDenied, NotFound, Conflict; InvalidRequest if that is too much.
    """
    names, rows = _rows(ledger, credentials, query, key)
    return {
        "from": query.start.isoformat(timespec="seconds"),
        "to": query.end.isoformat(timespec="seconds"),
        "usage": [{**row.to_public(), "key_name": names[row.key_id]} for row in rows],
        "total": total(rows),
    }


def usage_csv(ledger: Ledger, credentials: Credentials, query: UsageQuery, *, key: KeyRecord) -> str:
    """The same rows for spreadsheets, with the exact cost. Raises: as `usage`."""
    names, rows = _rows(ledger, credentials, query, key)
    text = io.StringIO()
    table = csv.writer(text, quoting=csv.QUOTE_NONNUMERIC)
    table.writerow(COLUMNS)
    for row in rows:
        said = (row.day, row.key_id, names[row.key_id], row.model, row.currency)
        cost = Decimal(row.cost_pico).scaleb(-PICO_DIGITS).normalize()
        table.writerow([*map(_inert, said), *row.counts().values(), f"{cost:f}"])
    return text.getvalue()


def _rows(
    ledger: Ledger, credentials: Credentials, query: UsageQuery, key: KeyRecord
) -> tuple[Mapping[str, str], Sequence[Usage]]:
    """The names of the keys, and what they have used."""
    names = visible_keys(credentials, query.key_id, key)
    by_day = query.by == "day"
    rows = ledger.report(list(names), start=query.start, end=query.end, model=query.model, by_day=by_day)
    return names, rows


def _inert(text: str) -> str:
    """A text that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(FORMULAS) else text
