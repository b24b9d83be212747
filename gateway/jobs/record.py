"""The record of a job, and its states. Knows no Redis, queue, engine or face.

Records are checked here when they are read, so that later code can rely on their fields (`gateway/store/checks.py`).
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from enum import StrEnum
from typing import Any

from gateway.errors import Unreadable
from gateway.jobs.kinds import KINDS
from gateway.process.trace_context import TraceContext
from gateway.store import checks
from gateway.store.codec import dumps, loads

#: Version of records and events, so that old and new workers can live side by side: a worker leaves what is newer.
RECORD_VERSION = 1


class JobState(StrEnum):
    """The states of a job."""

    #: Waits for a worker; may have journal entries from an earlier claim.
    QUEUED = "queued"
    #: One worker holds the claim.
    RUNNING = "running"
    #: Ended with a full answer.
    DONE = "done"
    #: Ended with an error.
    FAILED = "failed"
    #: Cancelled by a client, or because the client has left.
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether this state is final."""
        return self in (JobState.DONE, JobState.FAILED, JobState.CANCELLED)

    @property
    def word(self) -> str:
        """The state in the words of the customer's document."""
        return {"queued": "pending", "running": "in_progress", "done": "completed"}.get(self.value, self.value)


#: The kinds of jobs that agents run: they run no model, and use no tokens.
DEPLOYMENT, ADDITION = "deployment", "addition"
AGENT_KINDS = frozenset({DEPLOYMENT, ADDITION})
#: In the place of an API key: the job is one that Headrace has asked for by itself.
OURS = "headrace"


@dataclass(frozen=True)
class JobHead:
    """A job record without its request, which may be long. Times are ms since the epoch by Redis' clock, 0 = never."""

    id: str
    state: JobState
    kind: str
    model: str
    key_id: str
    _: KW_ONLY
    #: The queue key under which it waits or runs now; empty: `model`, which the client has asked for.
    route: str = ""
    #: The adapter of the model under `route` that it runs with; empty: none.
    adapter: str = ""
    background: bool = False
    owner: str = ""
    claim: str = ""
    epoch: int = 0
    seq: int = 0
    attempts: int = 0
    #: Crashes of engines or workers that it may have caused; see `lua/release.lua`.
    crashes: int = 0
    #: Claims in a row that were lost or given back without much progress.
    losses: int = 0
    #: Tokens made under the present claim.
    claim_tokens: int = 0
    cancel: bool = False
    #: Why it must be cancelled.
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
    #: Estimated tokens that its key was charged when it was created; 0: the key has no such limit.
    reserved: int = 0
    #: How often it gave its slots to others, though nothing was wrong with it.
    preemptions: int = 0
    #: Estimates: tokens of its prompt over the weight of its API key, and the most tokens that it may come to.
    prompt_cost: int = 0
    most_tokens: int = 0
    #: Sequences that it takes in a batch; 0: none, or unknown, see `gateway/jobs/job_kind.py`.
    slots: int = 0
    #: It is of no use if it does not begin until then; 0: it may begin at any time.
    deadline: int = 0
    #: How much its API key is served, next to others; 0: unknown, and taken as 1.
    weight: int = 0
    #: The price of its tokens, see `gateway/jobs/ledger.py`.
    price: str = ""
    #: Digest of the request, if it came with an idempotency key. Such a job runs on when its client leaves.
    fingerprint: str = ""
    #: The id of the request that has made it, by which logs are searched.
    request_id: str = ""
    #: The span of that request, see `trace`; empty: it is not traced.
    traceparent: str = ""
    tracestate: str = ""

    @property
    def runs_on(self) -> str:
        """The queue key under which it waits, or runs: a model, or a device."""
        return self.route or self.model

    @property
    def served_as(self) -> str:
        """The model that serves it, as clients know it."""
        return self.adapter or self.runs_on

    @property
    def trace(self) -> TraceContext:
        """Where it belongs in the trace of its client."""
        return TraceContext.read(self.traceparent, self.tracestate)

    @property
    def span(self) -> TraceContext:
        """Its own span in that trace, which is above all others of it."""
        return self.trace.below(self.id)

    def claim_span(self, claim: str) -> TraceContext:
        """The span of one of its claims, which a worker can name to others before it is exported."""
        return self.trace.below(self.id, claim)

    @property
    def log_ids(self) -> dict[str, str]:
        """The ids that log lines about it have."""
        ids = {"request_id": self.request_id, "job_id": self.id, "claim_id": self.claim}
        return {**ids, "model": self.served_as, "key_id": self.key_id, "trace_id": self.trace.trace_id}

    @property
    def word(self) -> str:
        """Its state in the words of the customer's document; `cancelling` from the mark to the end."""
        return "cancelling" if self.cancel and not self.state.ended else self.state.word

    @classmethod
    def parse(cls, job_id: str, raw: Mapping[str, str | None]) -> JobHead:
        """Build from the hash's fields. Raises: Unreadable."""
        return cls(id=job_id, **_parsed(raw))


@dataclass(frozen=True)
class Job(JobHead):
    """A job record with its request."""

    request: Mapping[str, Any]

    def new_fields(self) -> dict[str, str | int]:
        """The fields of a new record, besides its request."""
        brought = {name: value for name in _BROUGHT if (value := getattr(self, name))}
        return {
            "v": RECORD_VERSION,
            "state": JobState.QUEUED.value,
            "kind": self.kind,
            "model": self.model,
            "key_id": self.key_id,
            "background": int(self.background),
            **brought,
        }

    @property
    def detached(self) -> bool:
        """Whether it runs on when its client leaves: if the request says so, or has an idempotency key."""
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
        """The fields that the end sets: with `store: false` the prompts are blanked."""
        if self.request.get("store", True):
            return {}
        prompt = self.request.get("prompt", "")
        blank = {"messages": [], "input": [], "prompt": "" if isinstance(prompt, str) else [""] * len(prompt)}
        kept = {name: blank.get(name, value) for name, value in self.request.items() if name != "passed_on"}
        return {"request": dumps(kept)}


#: Fields that a new record may have from the beginning, including those of a restored job.
_BROUGHT = (
    *(
        "route",
        "adapter",
        "price",
        "fingerprint",
        "request_id",
        "traceparent",
        "tracestate",
        "slots",
        "prompt_cost",
        "most_tokens",
        "weight",
        "reserved",
        "deadline",
    ),
    *("created_at", "crashes", "losses", "preemptions"),
)
#: Fields of the record that are whole numbers.
_NUMBERS = (
    *("epoch", "seq", "attempts", "crashes", "losses", "claim_tokens", "ttl_ms", "attended_until", "reserved"),
    *("preemptions", "prompt_cost", "most_tokens", "slots", "weight"),
    *("created_at", "queued_at", "started_at", "finished_at", "progress_at", "deadline"),
)
_TEXTS = (
    *("kind", "model", "key_id", "route", "adapter", "owner", "claim", "cancel_reason", "price", "fingerprint"),
    *("request_id", "traceparent", "tracestate"),
)
_FLAGS = ("background", "cancel")
_OBJECTS = ("usage", "error")
#: The fields of a `JobHead`, and the version that wrote the record.
HEAD_FIELDS = ("state", "v", *_TEXTS, *_FLAGS, *_OBJECTS, *_NUMBERS)


def is_newer(raw: Mapping[str, str | None]) -> bool:
    """Whether a record was written by a newer version."""
    version = raw.get("v") or ""
    return version.isdecimal() and len(version) < 10 and int(version) > RECORD_VERSION


def salvaged(raw: Mapping[str, str | None]) -> dict[str, str]:
    """The readable fields of a damaged record."""
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


class Cause(StrEnum):
    """Why a running job goes back to the queue."""

    #: Its engine or worker crashed, or hung: the job may be the cause.
    CRASHED = "crashed"
    #: Its engine or worker crashed, and had no other job: the job is the cause.
    CRASHED_ALONE = "crashed_alone"
    #: Its worker died, or its engine was killed.
    LOST = "lost"
    #: Not the job's fault: a drain, a stall, Redis.
    GIVEN_BACK = "given_back"
    #: Its slots were needed for jobs that somebody waits for.
    PREEMPTED = "preempted"


def new_job_id(kind: str, unique: str = "") -> str:
    """A new id: `chatcmpl-...`, `cmpl-...`; random, or derived from `unique`."""
    return f"{KINDS[kind].id_prefix}-{unique or secrets.token_hex(12)}"


def new_claim_id() -> str:
    """A new claim id, the fencing token of one claim."""
    return secrets.token_hex(4)
