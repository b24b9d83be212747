"""API keys as admins see them, and whose jobs and usage a key may see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from gateway.access.api_keys import Credentials
from gateway.access.key_record import KeyRecord
from gateway.access.limits import Limits, Quota
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


def shown_with_left(limits: Limits, records: Sequence[KeyRecord]) -> list[dict[str, Any]]:
    """Keys, and what each has left of its limits now."""
    left = limits.left(records)
    return [{**shown(record), **_left(left.get(record.id))} for record in records]


def _left(quota: Quota | None) -> dict[str, Any]:
    return {
        "remaining_requests": quota.remaining_requests if quota and quota.limit_requests else None,
        "remaining_tokens": quota.remaining_tokens if quota and quota.limit_tokens else None,
        "reset_s": quota.reset_s if quota else None,
    }


def visible_key(credentials: Credentials, name: str, key: KeyRecord) -> KeyRecord:
    """The key with this id or name, which is the caller's own, or any for an admin.

    Raises:
        PermissionDenied, NotFound, Conflict.
    """
    if "admin" in key.scopes:
        return credentials.find(name)
    if name not in (key.id, key.name):
        key.require("admin")
    return key


def visible_keys(credentials: Credentials, name: str | None, key: KeyRecord) -> dict[str, str]:
    """The keys whose jobs and usage this key may see, and their names: itself; an admin's all, or the one it names.

    Raises:
        PermissionDenied, NotFound, Conflict.
    """
    if "admin" not in key.scopes:
        if name not in (None, key.id, key.name):
            key.require("admin")
        return {key.id: key.name}
    found = credentials.list() if name is None else [credentials.find(name)]
    return {record.id: record.name for record in found}
