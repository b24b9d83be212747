"""The record of a job, its states and its events. Knows no Redis, queue, engine or face.

What is read is checked here, so that nobody behind it meets a value that it can't use (`gateway/store/checks.py`).
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from enum import StrEnum
from typing import Any

from gateway.errors import Unreadable
from gateway.jobs.kinds import KINDS
from gateway.store import checks
from gateway.store.codec import dumps, loads

#: Version of records and events, so that old and new workers can live side by side: a worker leaves what is newer.
RECORD_VERSION = 1
#: Limits of one append.
MAX_EVENTS_PER_APPEND, MAX_BYTES_PER_APPEND = 256, 256 * 1024


class JobState(StrEnum):
    """Where a job is."""

    #: Waits for a worker; may have journal entries from an earlier claim.
    QUEUED = "queued"
    #: One worker holds the claim.
    RUNNING = "running"
    #: Ended with a full answer.
    DONE = "done"
    #: Ended with an error.
    FAILED = "failed"
    #: Ended because a client, or its absence, asked for it.
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether this state is final."""
        return self in (JobState.DONE, JobState.FAILED, JobState.CANCELLED)

    @property
    def word(self) -> str:
        """The state in the words of the customer's document."""
        return {"queued": "pending", "running": "in_progress", "done": "completed"}.get(self.value, self.value)


#: The kind of job that runs no model, and uses no tokens.
DEPLOYMENT = "deployment"


class EventType(StrEnum):
    """What a journal entry says."""

    #: A claim begins: prompt tokens and digests.
    STARTED = "started"
    #: A later claim goes on where the journal ends, or another model takes over (`model`).
    RESUMED = "resumed"
    #: The model that ran it has failed: who (`model`), why (`reason`), and who is next (`next`).
    INTERRUPTED = "interrupted"
    #: New token ids of one choice, and the text that became certain.
    DELTA = "delta"
    #: All deltas of a job that ended a while ago, in the place of the last of them.
    SNAPSHOT = "snapshot"
    #: Vectors of some inputs, `done`, lie in the job's vectors.
    VECTORS = "vectors"
    #: A deployment: one of a replica's stages has begun, gone on or ended; see `gateway/cluster/startup.py`.
    STAGE = "stage"
    #: A deployment: a line for people.
    LOG = "log"
    #: A deployment: what is known of a replica by now, such as its memory as planned and as measured.
    FACTS = "facts"
    #: Terminal events; each job has exactly one.
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    #: Only sent to a watcher: the journal was rewound below its cursor.
    REWOUND = "rewound"
    #: Only sent to a watcher: its cursor lies in what a snapshot has taken the place of.
    COMPACTED = "compacted"
    #: Only sent to a watcher: the record is gone.
    EXPIRED = "expired"

    @property
    def terminal(self) -> bool:
        """Whether nothing follows this event."""
        return self in _TERMINAL


#: These are asked for many times in each event's life, and building them there takes ten times as long.
_EVENT_TYPES = {kind.value: kind for kind in EventType}
_TERMINAL = frozenset({EventType.DONE, EventType.FAILED, EventType.CANCELLED, EventType.EXPIRED})


@dataclass(frozen=True)
class Event:
    """One journal entry. `body` holds `type`, `c` (the claim) and what belongs to the type."""

    seq: int
    body: Mapping[str, Any]

    @classmethod
    def from_entry(cls, seq: Any, body: Any) -> Event:
        """An event of somebody else. Raises: Unreadable if it is none, or is not as its type says."""
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
        """The claim under which it was written; one of its own for an end that was written from outside."""
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
class JobHead:
    """A job record without its request, which may be long. Times are ms since the epoch by Redis' clock, 0 = never."""

    id: str
    state: JobState
    kind: str
    model: str
    key_id: str
    _: KW_ONLY
    #: The model that runs it now; empty: `model`, which the client has asked for.
    route: str = ""
    background: bool = False
    owner: str = ""
    claim: str = ""
    epoch: int = 0
    seq: int = 0
    attempts: int = 0
    #: Deaths of engines that it may be the cause of; see `lua/release.lua`.
    crashes: int = 0
    #: Claims in a row that were lost or given back before they had come far.
    losses: int = 0
    #: Tokens that this claim has brought.
    claim_tokens: int = 0
    cancel: bool = False
    #: Why it is to be cancelled.
    cancel_reason: str = ""
    created_at: int = 0
    queued_at: int = 0
    started_at: int = 0
    finished_at: int = 0
    progress_at: int = 0
    attended_until: int = 0
    ttl_ms: int = 0
    usage: Mapping[str, int] = field(default_factory=dict)
    error: Mapping[str, Any] = field(default_factory=dict)
    #: Tokens that its key was charged for it before it began, by an estimate; 0: the key has no such limit.
    reserved: int = 0
    #: What its tokens cost, see `gateway/jobs/ledger.py`.
    price: str = ""
    #: Of the request, if it came with an idempotency key. Such a job runs on when its client leaves.
    fingerprint: str = ""

    @property
    def runs_on(self) -> str:
        """The model in whose queue it waits, or that runs it."""
        return self.route or self.model

    @property
    def word(self) -> str:
        """Its state in the words of the customer's document; `cancelling` while it is marked, but has not ended."""
        return "cancelling" if self.cancel and not self.state.ended else self.state.word

    @classmethod
    def parse(cls, job_id: str, raw: Mapping[str, str | None]) -> JobHead:
        """Build from the hash's fields. Raises: Unreadable."""
        return cls(id=job_id, **_parsed(raw))


@dataclass(frozen=True)
class Job(JobHead):
    """A job record as read."""

    request: Mapping[str, Any]

    @property
    def detached(self) -> bool:
        """Whether it goes on when its client leaves: it says so, or may be found again by its idempotency key."""
        return bool(self.request.get("detach") or self.fingerprint)

    @classmethod
    def parse(cls, job_id: str, raw: Mapping[str, str | None]) -> Job:
        """Build from the hash's fields. Raises: Unreadable."""
        fields = _parsed(raw)
        try:
            request = loads(raw.get("request") or "{}")
        except ValueError as error:
            raise Unreadable(f"Its request is no JSON: {error}.") from error
        if problem := checks.request(fields["kind"], request):
            raise Unreadable(f"Its request: {problem}")
        return cls(id=job_id, request=request, **fields)

    def end_fields(self) -> dict[str, str]:
        """What its record takes over at the end: with `store: false` the prompts are blanked, but still counted."""
        if self.request.get("store", True):
            return {}
        prompt = self.request.get("prompt", "")
        blank = {"messages": [], "input": [], "prompt": "" if isinstance(prompt, str) else [""] * len(prompt)}
        return {"request": dumps({**self.request, **{name: blank[name] for name in blank if name in self.request}})}


#: Fields of the record that are whole numbers.
_NUMBERS = (
    *("epoch", "seq", "attempts", "crashes", "losses", "claim_tokens", "ttl_ms", "attended_until", "reserved"),
    *("created_at", "queued_at", "started_at", "finished_at", "progress_at"),
)
_TEXTS = ("kind", "model", "key_id", "route", "owner", "claim", "cancel_reason", "price", "fingerprint")
_FLAGS = ("background", "cancel")
_OBJECTS = ("usage", "error")
#: Those of a `JobHead`, and the version that has written it.
HEAD_FIELDS = ("state", "v", *_TEXTS, *_FLAGS, *_OBJECTS, *_NUMBERS)


def is_newer(raw: Mapping[str, str | None]) -> bool:
    """Whether a record is of a version that this program does not know."""
    version = raw.get("v") or ""
    return version.isdecimal() and len(version) < 10 and int(version) > RECORD_VERSION


def salvaged(raw: Mapping[str, str | None]) -> dict[str, str]:
    """The fields of a record that can be read, of one that can't be read as a whole."""
    found = {name: value for name, value in raw.items() if name in (*_TEXTS, *_FLAGS, *_OBJECTS, *_NUMBERS) and value}
    return {name: value for name, value in found.items() if not _problem({"state": "failed", name: value})}


def _parsed(raw: Mapping[str, str | None]) -> dict[str, Any]:
    if problem := _problem(raw):
        version = f" It is of version {raw['v']}, and this program knows {RECORD_VERSION}." if is_newer(raw) else ""
        raise Unreadable(f"{problem}{version}")
    return {
        "state": JobState(str(raw["state"])),
        **{name: raw.get(name) or "" for name in _TEXTS},
        **{name: raw.get(name) == "1" for name in _FLAGS},
        **{name: loads(raw.get(name) or "{}") for name in _OBJECTS},
        **{name: int(raw.get(name) or 0) for name in _NUMBERS},
    }


def _problem(raw: Mapping[str, str | None]) -> str:
    """What is wrong with a record's fields; empty if nothing is."""
    if raw.get("state") not in set(JobState):
        return f"The state is {raw.get('state')!r:.80}."
    if raw.get("kind", "chat") not in KINDS:
        return f"The kind is {raw['kind']!r:.80}."
    for name in _NUMBERS:
        if not checks.number(name, raw.get(name) or "0"):
            return f"The field {name} is {raw[name]!r:.80}."
    for name in _OBJECTS:
        if not checks.record_object(name, raw.get(name) or "{}"):
            return f"The field {name} is {raw[name]!r:.80}."
    return "" if checks.price(raw.get("price") or "") else f"The price is {raw['price']!r:.80}."


@dataclass(frozen=True)
class Append:
    """Events for one job, in order; with `state` they end it and `fields` are kept in the record."""

    job_id: str
    claim: str
    first_seq: int
    events: Sequence[str]
    state: JobState | None = None
    fields: Mapping[str, str] = field(default_factory=dict)
    #: (offset, bytes): what belongs there in the job's vectors.
    vectors: Sequence[tuple[int, bytes]] = ()
    #: Tokens of this claim up to the last of these events.
    tokens: int = 0


class Cause(StrEnum):
    """Why a running job goes back to the queue."""

    #: Its engine or worker died of itself, or hung: the job may be the cause.
    CRASHED = "crashed"
    #: Its engine or worker died of itself, and had nothing else to do: the job is the cause.
    CRASHED_ALONE = "crashed_alone"
    #: Its worker died, or somebody killed its engine.
    LOST = "lost"
    #: Nothing is wrong with it: a drain, a stall, Redis.
    GIVEN_BACK = "given_back"


def new_job_id(kind: str, unique: str = "") -> str:
    """A fresh id: `chatcmpl-...`, `cmpl-...`; or the one that `unique` leads to."""
    return f"{KINDS[kind].id_prefix}-{unique or secrets.token_hex(12)}"


def new_claim_id() -> str:
    """A fresh claim id, the fence of one claim."""
    return secrets.token_hex(4)
