"""API keys as admins see them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from gateway.access.key_record import KeyRecord
from schemas.base.times import iso_seconds


def shown(record: KeyRecord) -> dict[str, Any]:
    """A key without its secret: times are ISO 8601, and what has no limit or was never is null."""
    data = {**asdict(record), "status": record.status}
    for name, value in data.items():
        if name.endswith(("_at", "_until")):
            data[name] = iso_seconds(value) if value else None
        elif name.endswith("_per_minute"):
            data[name] = value or None
    return data
