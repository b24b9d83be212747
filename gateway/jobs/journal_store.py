"""The journals of jobs in Redis: appends, reads and publishes events. Knows no engine and no face.

An append is idempotent by claim id and seq, so it can be repeated if its reply was lost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any, cast

import redis
from redis.client import NEVER_DECODE

from gateway.jobs.events import Append, Event
from gateway.store import keys
from gateway.store.codec import dumps
from gateway.store.connection import is_lasting, pipeline
from gateway.store.joined import Command
from gateway.store.scripts import Scripts
from gateway.store.unreadable import reading

#: Events for watching processes: for each hub, (job id, first seq, events).
News = Mapping[str, Sequence[tuple[str, int, Sequence[str]]]]
NO_NEWS: News = MappingProxyType({})


class AppendVerdict(StrEnum):
    """The result of an append."""

    #: The journal has the events.
    OK = "ok"
    #: There is no such record.
    MISSING = "missing"
    #: Another claim holds the job, or has written events with these seqs.
    FENCED = "fenced"
    #: The job has ended.
    ENDED = "ended"
    #: The journal lacks events before these: it ends with `Appended.seq`.
    GAP = "gap"
    #: Redis could not take them now.
    NOT_NOW = "not_now"
    #: Redis will never take them.
    REFUSED = "refused"


@dataclass(frozen=True)
class Appended:
    """The reply of `append.lua`, or the error of Redis instead."""

    verdict: AppendVerdict
    #: The journal's last.
    seq: int = 0
    #: Why the job is to be cancelled, if it is.
    cancel: str = ""
    #: Hubs that watch the job.
    watch: tuple[str, ...] = ()
    #: Why Redis did not take it.
    error: str = ""

    @classmethod
    def from_reply(cls, reply: Any) -> Appended:
        """Read the script's reply, or the error instead of it."""
        if isinstance(reply, Exception):
            return cls(AppendVerdict.REFUSED if is_lasting(reply) else AppendVerdict.NOT_NOW, error=str(reply))
        verdict, seq, cancel, watch = reply
        return cls(AppendVerdict(verdict), int(seq), cancel, tuple(name for name in watch.split(",") if name))


class JournalStore:
    """All reads and writes of journals, and of the vectors beside them.

    Every method may raise NOT_NOW (`gateway/store/connection.py`).
    """

    def __init__(self, client: redis.Redis, scripts: Scripts) -> None:
        self._redis = client
        self._scripts = scripts

    def append(self, appends: Sequence[Append], *, batch: int = 0) -> list[Appended]:
        """Write events of many jobs in one round trip. The verdicts come in the same order.

        `batch`: sequences in the batch of which they come, for timelines; 0 = there is none.
        """
        sha = self._scripts.sha("append")
        commands: list[Command] = []
        for item in appends:
            end = (item.state.value, dumps(item.fields)) if item.state else ("", "")
            head = (
                "EVALSHA",
                sha,
                3,
                *keys.of_job(item.job_id),
                item.claim,
                item.first_seq,
                *end,
                item.tokens,
                item.ids,
                batch,
            )
            vectors = (part for pair in item.vectors for part in pair)
            commands.append((*head, len(item.events), *item.events, *vectors))
        return [Appended.from_reply(reply) for reply in self._scripts.execute_commands(commands, raise_on_error=False)]

    def publish(self, news: News) -> None:
        """Send events to watching processes."""
        pipeline(self._redis, self.publications(news))

    def publications(self, news: News) -> list[Command]:
        """The commands that send them."""
        bodies = {
            hub_id: ",".join([f"[{dumps(job_id)},{first},[{','.join(events)}]]" for job_id, first, events in items])
            for hub_id, items in news.items()
        }
        return [("PUBLISH", keys.hub(hub_id), f"[{body}]") for hub_id, body in bodies.items()]

    def read(self, job_id: str, *, after: int = 0, count: int | None = None) -> list[Event]:
        """Entries whose seq is above `after`. Raises: Unreadable."""
        with reading(f"The journal of job {job_id}"):
            entries = cast(
                "list[tuple[str, dict[str, str] | None]]",
                self._redis.xrange(keys.events(job_id), min=f"{after + 1}-0", count=count),
            )
            return [Event.parse(entry_id, fields) for entry_id, fields in entries]

    def vectors(self, job_id: str) -> bytes:
        """The vectors of an embedding job, packed float32; empty if there are none. Raises: Unreadable."""
        with reading(f"What job {job_id} has made"):
            return cast(bytes, self._redis.execute_command("GET", keys.vectors(job_id), **{NEVER_DECODE: []}) or b"")

    def long_among(self, job_ids: Sequence[str], min_entries: int) -> list[str]:
        """The jobs whose journal has at least `min_entries`."""
        pipe = self._redis.pipeline(transaction=False)
        for job_id in job_ids:
            pipe.xlen(keys.events(job_id))
        lengths = zip(job_ids, pipe.execute(raise_on_error=False), strict=True)
        return [job_id for job_id, length in lengths if isinstance(length, int) and length >= min_entries]

    def replace(self, job_id: str, events: Sequence[Event]) -> bool:
        """Replace an ended job's journal with these events. False if the journal has changed meanwhile."""
        entries = [part for event in events for part in (str(event.seq), event.encoded)]
        return bool(self._scripts.run("compact", keys.of_job(job_id), str(events[-1].seq), *entries))
