"""Sets by model: where its replicas are, so that who asks for one model need not read all that runs.

Each holds at least what there is. Who writes a heartbeat or a spec adds to the set of its model; the keeper adds what
programs of older versions have written. Until it has done so, and when it has not for a while, everything is read.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import redis

from gateway.store import keys
from gateway.store.connection import pipeline

#: The sets count as complete for so long after the keeper has seen to it.
COMPLETE_MS = 30_000


def members(client: redis.Redis, name: str) -> list[str] | None:
    """The members of the set of one model; None if some may be missing. Raises: NOT_NOW."""
    complete, found = pipeline(client, [("EXISTS", keys.BY_MODEL), ("SMEMBERS", name)])
    return sorted(found) if complete else None


def count(client: redis.Redis, name: str) -> int | None:
    """How many there are, at most; None if some may be missing. Raises: NOT_NOW."""
    complete, found = pipeline(client, [("EXISTS", keys.BY_MODEL), ("SCARD", name)])
    return int(found) if complete else None


def complete(client: redis.Redis, sets: Mapping[str, Collection[str]]) -> None:
    """Add these members, which are all that there are. Raises: NOT_NOW."""
    added = [("SADD", name, *found) for name, found in sets.items() if found]
    pipeline(client, [*added, ("SET", keys.BY_MODEL, 1, "PX", COMPLETE_MS)])
