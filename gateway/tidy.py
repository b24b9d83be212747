"""Takes jobs whose record has expired out of the lists of their API key, a few at a time. The keeper calls it."""

from __future__ import annotations

import logging
from typing import cast

from gateway import keys
from gateway.jobs import JobStore
from gateway.redis import pipeline

log = logging.getLogger(__name__)

#: Entries, and keys, that one step looks at, about.
ENTRIES, KEYS = 1_000, 100
#: After a step that has found nothing so many are left out: a walk over lists without gaps can take its time.
REST_STEPS = 9
#: The list is written before the record: an entry younger than this may be of a job that is being made.
YOUNG_MS = 60_000


class Tidy:
    """A walk over all keys and their jobs, which begins anew when it is through."""

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._key_ids: list[str] = []
        self._cursor = 0
        self._rest = 0

    def step(self) -> None:
        """Look at the next few entries, or at none if there was nothing to do lately."""
        if self._rest:
            self._rest -= 1
            return
        self._rest = REST_STEPS
        redis = self._store.redis
        self._key_ids = self._key_ids or cast("list[str]", redis.hkeys(keys.API_KEYS))
        before_ms = self._store.now_ms() - YOUNG_MS
        seen = 0
        for key_id in self._key_ids[-KEYS:][::-1]:
            while seen < ENTRIES:
                scanned = redis.zscan(keys.owned(key_id), self._cursor, count=ENTRIES)
                self._cursor, entries = cast("tuple[int, list[tuple[str, float]]]", scanned)
                seen += len(entries)
                self._remove_gone(key_id, [job_id for job_id, made_ms in entries if made_ms < before_ms])
                if self._cursor == 0:
                    self._key_ids.pop()
                    break
            if seen >= ENTRIES:
                return

    def _remove_gone(self, key_id: str, job_ids: list[str]) -> None:
        found = pipeline(self._store.redis, [("EXISTS", keys.job(job_id)) for job_id in job_ids])
        gone = [job_id for job_id, there in zip(job_ids, found, strict=True) if not there]
        if not gone:
            return
        self._rest = 0
        self._store.redis.zrem(keys.owned(key_id), *gone)
        unsettled = self._store.redis.srem(keys.open_jobs(key_id), *gone)
        if unsettled:
            log.error("key %s: %s jobs expired before they were settled, and are not in the ledger", key_id, unsettled)
