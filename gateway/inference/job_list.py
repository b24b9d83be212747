"""The list of jobs, newest first, a page at a time. The next page begins right behind a job's place in the indexes of
the API keys, which nothing changes: whatever is added or ends meanwhile, no job is missed and none comes twice.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from gateway.errors import InvalidRequest
from gateway.jobs.record import JobHead, JobState
from gateway.jobs.store import JobStore
from gateway.store import keys

#: Records that are read in one round trip, and round trips for one page.
BATCH, ROUNDS = 200, 10
#: Places that are read of one API key in a round trip, at least.
LEAST_OF_KEY = 20
_CURSOR = re.compile(r"(\d{1,15})-([\x21-\x7e]{1,200})", re.ASCII)


class Place(NamedTuple):
    """Where a job is in the list. As text it is the cursor behind it."""

    made_ms: int
    job_id: str

    def __str__(self) -> str:
        return f"{self.made_ms}-{self.job_id}"

    @classmethod
    def parse(cls, cursor: str) -> Place:
        """Raises: InvalidRequest."""
        found = _CURSOR.fullmatch(cursor)
        if found is None:
            raise InvalidRequest.of_cursor(cursor)
        return cls(int(found[1]), found[2])


@dataclass(frozen=True)
class JobFilter:
    """Which jobs are wanted. Empty and None: all."""

    state: JobState | None = None
    model: str = ""
    kind: str = ""
    since_ms: int = 0

    def takes(self, job: JobHead) -> bool:
        """Whether this one is, apart from its age."""
        return self.state in (None, job.state) and self.model in ("", job.model) and self.kind in ("", job.kind)


class Page(NamedTuple):
    """Some jobs, newest first; fewer than were asked for if others had to be looked through for too long."""

    jobs: list[JobHead]
    #: Behind which the next page begins; None: it was the last.
    cursor: Place | None


def page(store: JobStore, key_ids: Sequence[str], wanted: JobFilter, *, limit: int, after: Place | None) -> Page:
    """The next jobs of these API keys behind a place, or from the newest on."""
    found: list[JobHead] = []
    for _ in range(ROUNDS):
        places, goes_on = _behind(store, key_ids, wanted.since_ms, after)
        heads = store.heads(place.job_id for place in places)
        for after in places:
            job = heads.get(after.job_id)
            if job and wanted.takes(job):
                found.append(job)
            if len(found) == limit:
                return Page(found, after if goes_on or after != places[-1] else None)
        if not goes_on:
            return Page(found, None)
    return Page(found, after)


def _behind(store: JobStore, key_ids: Sequence[str], since_ms: int, after: Place | None) -> tuple[list[Place], bool]:
    """The next places, and whether others follow."""
    count = max(LEAST_OF_KEY, 2 * BATCH // len(key_ids))
    pipe = store.redis.pipeline(transaction=False)
    for key_id in key_ids:
        name, highest = keys.owned(key_id), f"({after.made_ms}" if after else "+inf"
        pipe.zrevrangebyscore(name, highest, since_ms, start=0, num=count, withscores=True)
        if after:  # those of the same millisecond are in the order of their ids
            pipe.zrevrangebyscore(name, after.made_ms, max(after.made_ms, since_ms), withscores=True)
    lists = [[Place(int(made_ms), job_id) for job_id, made_ms in entries] for entries in pipe.execute()]
    older = lists[:: 2 if after else 1]
    # Of a key with more jobs than were read, those behind the last one are not known.
    known = max((entries[-1] for entries in older if len(entries) == count), default=None)
    places = sorted((one for entries in lists for one in entries if after is None or one < after), reverse=True)
    places = [one for one in places if known is None or one >= known]
    return places[:BATCH], known is not None or len(places) > BATCH
