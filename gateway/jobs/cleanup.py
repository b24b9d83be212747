"""Walks over the data in Redis, a few entries at a time: removes jobs whose record has expired from the lists of their
API key, and puts jobs that are in no index back into one. The keeper calls it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import cast

from gateway.jobs.damaged import sift
from gateway.jobs.record import OURS, JobHead, JobState
from gateway.jobs.store import JobStore
from gateway.store import keys
from gateway.store.connection import pipeline

log = logging.getLogger(__name__)

#: About how many entries, and keys, one step checks.
ENTRIES, KEYS = 500, 100
#: Steps that are skipped after one that found nothing to remove.
REST_STEPS = 9
_OPEN = (JobState.QUEUED, JobState.RUNNING)
#: The list is written before the record: an entry younger than this may be of a job that is being made.
YOUNG_MS = 60_000


class Cleanup:
    """A walk over all API keys and their jobs, which starts again at its end."""

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._key_ids: list[str] = []
        self._cursor = 0
        self._rest = 0

    def step(self) -> None:
        """Check the next few entries, or none if the last ones were all right."""
        if self._rest:
            self._rest -= 1
            return
        self._rest = REST_STEPS
        redis = self._store.redis
        self._key_ids = self._key_ids or [OURS, *cast("list[str]", redis.hkeys(keys.API_KEYS))]
        before_ms = self._store.clock.now_ms() - YOUNG_MS
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
        if unsettled := self._store.indexes.forget_gone(key_id, gone):
            log.error("key %s: %s jobs expired before they were settled, and are not in the ledger", key_id, unsettled)


class Strays:
    """A walk over all records: a job that has not ended must be in an index, or it would never be found.

    Each change of a job ensures that. This is for unforeseen cases, and for jobs from before an outage.
    """

    def __init__(self, store: JobStore, *, mends: bool = True) -> None:
        self._store = store
        #: With `mends`, records that can't be read go into quarantine; without, they are left out.
        self._read = partial(sift, store) if mends else store.heads
        self._cursor = 0
        self._rest = 0

    def step(self) -> None:
        """Check the next few records; pause for a while after a whole walk."""
        if self._rest:
            self._rest -= 1
            return
        for job in self.next_page():
            log.error("job %s: is %s but in no index, put back", job.id, job.state.value, extra=job.log_ids)
            self._store.indexes.track(job.id, job.runs_on)
        self._rest = 0 if self.goes_on else REST_STEPS

    @property
    def goes_on(self) -> bool:
        """Whether the walk has not reached its end."""
        return bool(self._cursor)

    def next_page(self) -> list[JobHead]:
        """The strays among the next few records."""
        scanned = self._store.redis.scan(self._cursor, match=keys.job("*"), count=ENTRIES)
        self._cursor, names = cast("tuple[int, list[str]]", scanned)
        job_ids = [name[len(keys.job("")) - 1 : -1] for name in names]
        commands = [("HMGET", keys.job(job_id), "state", "route", "model") for job_id in job_ids]
        replies = zip(job_ids, pipeline(self._store.redis, commands, raise_on_error=False), strict=True)
        found = [(job_id, reply) for job_id, reply in replies if isinstance(reply, list)]
        waits_for = {i: route or model for i, (state, route, model) in found if state in _OPEN}
        return self.among(self._not_indexed(waits_for))

    def among(self, job_ids: Sequence[str]) -> list[JobHead]:
        """The strays among these."""
        jobs = {job.id: job for job in self._read(job_ids).values() if job is not None and not job.state.ended}
        return [jobs[job_id] for job_id in self._not_indexed({job.id: job.runs_on for job in jobs.values()})]

    def _not_indexed(self, waits_for: Mapping[str, str]) -> list[str]:
        """Those of these jobs that are in no index, in one round trip. `waits_for`: job to model."""
        commands = [
            ("ZSCORE", index, job_id)
            for job_id, model in waits_for.items()
            for index in (keys.RUNNING, keys.queued(model))
        ]
        scores = iter(pipeline(self._store.redis, commands, raise_on_error=False))
        return [job_id for job_id, one, other in zip(waits_for, scores, scores, strict=True) if one is other is None]
