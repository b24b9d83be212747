"""The events of a job: the entries of its journal. Knows no Redis, queue, engine or face.

Events are checked here when they are read, so that later code can rely on their fields (`gateway/store/checks.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from gateway.errors import Unreadable
from gateway.jobs.record import JobState
from gateway.store import checks
from gateway.store.codec import dumps, loads

#: Limits of one append.
MAX_EVENTS_PER_APPEND, MAX_BYTES_PER_APPEND = 256, 256 * 1024


class EventType(StrEnum):
    """The types of journal entries."""

    #: A claim begins: prompt tokens and digests.
    STARTED = "started"
    #: A later claim goes on where the journal ends, or another model takes over (`model`).
    RESUMED = "resumed"
    #: The model that ran it has failed: who (`model`), why (`reason`), and who is next (`next`).
    INTERRUPTED = "interrupted"
    #: New token ids of one choice, and the text that became certain.
    DELTA = "delta"
    #: Replaces all deltas of a job that ended a while ago.
    SNAPSHOT = "snapshot"
    #: The vectors of the inputs `done` have been written.
    VECTORS = "vectors"
    #: A deployment: one of a replica's stages has begun, gone on or ended; see `gateway/cluster/startup.py`.
    STAGE = "stage"
    #: A deployment: a line for people.
    LOG = "log"
    #: A deployment: facts about a replica, such as its planned and measured memory.
    FACTS = "facts"
    #: Terminal events; each job has exactly one.
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    #: Only sent to a watcher: the journal was rewound below its cursor.
    REWOUND = "rewound"
    #: Only sent to a watcher: a snapshot has replaced the entry at its cursor.
    COMPACTED = "compacted"
    #: Only sent to a watcher: the record is gone.
    EXPIRED = "expired"

    @property
    def terminal(self) -> bool:
        """Whether nothing follows this event."""
        return self in _TERMINAL


#: A dict is ten times as fast as `EventType(...)`, and this is on the hot path.
_EVENT_TYPES = {kind.value: kind for kind in EventType}
_TERMINAL = frozenset({EventType.DONE, EventType.FAILED, EventType.CANCELLED, EventType.EXPIRED})


@dataclass(frozen=True)
class Event:
    """One journal entry. `body` holds `type`, `c` (the claim) and what belongs to the type."""

    seq: int
    body: Mapping[str, Any]

    @classmethod
    def from_entry(cls, seq: Any, body: Any) -> Event:
        """An event from another process. Raises: Unreadable if it is invalid for its type."""
        if not isinstance(body, dict) or str(body.get("type")) not in _EVENT_TYPES:
            raise Unreadable(f"Entry {seq!r:.20} is of no known type: {body!r:.80}.")
        if problem := checks.event(seq, body):
            raise Unreadable(f"Entry {seq!r:.20}, {body['type']}: {problem}")
        return cls(seq, body)

    @classmethod
    def parse(cls, entry_id: str, fields: Mapping[str, str] | None) -> Event:
        """An entry of a journal. Raises: Unreadable."""
        try:
            seq, body = int(entry_id.partition("-")[0]), loads((fields or {})["e"])
        except (ValueError, KeyError, TypeError) as error:
            raise Unreadable(f"Entry {entry_id:.20} is no JSON: {error}.") from error
        return cls.from_entry(seq, body)

    @property
    def type(self) -> EventType:
        """The kind of entry."""
        return _EVENT_TYPES[self.body["type"]]

    @property
    def claim(self) -> str:
        """The claim under which it was written; a new id for an end that was written from outside."""
        return str(self.body.get("c", ""))

    @property
    def encoded(self) -> str:
        """The body as the journal keeps it."""
        return dumps(self.body)

    @property
    def cursor(self) -> str:
        """What a client sends back as `Last-Event-ID`."""
        return f"{self.seq}-{self.claim}"


@dataclass(frozen=True)
class Append:
    """Events for one job, in order; with `state` they end it and `fields` are kept in the record."""

    job_id: str
    claim: str
    first_seq: int
    events: Sequence[str]
    state: JobState | None = None
    fields: Mapping[str, str] = field(default_factory=dict)
    #: (offset, bytes) to write into the job's vectors.
    vectors: Sequence[tuple[int, bytes]] = ()
    #: The progress of this claim up to the last of these events, and its token ids.
    tokens: int = 0
    ids: int = 0
