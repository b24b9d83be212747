"""The spans of a job that has ended, made of what its record and its timeline hold.

So no worker and no engine makes spans, and none is lost with a process that dies. Nothing of a prompt or an answer is
there to be told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from gateway.jobs.events import Event, EventType
from gateway.jobs.record import ADDITION, DEPLOYMENT, Cause, JobHead, JobState
from gateway.models.entry import Provider
from gateway.tracing.spans import Attributes, Span, Value
from gateway.views.timeline import ENDS, Entry

#: What each kind of job does: OpenTelemetry's names where it has some.
OPERATIONS = {
    "chat": "chat",
    "completion": "text_completion",
    "embedding": "embeddings",
    DEPLOYMENT: "deploy",
    ADDITION: "add_model",
}
#: `gen_ai.provider.name` of our own engines.
OURS = "headrace"
#: Causes for which nothing is wrong.
_WELL = (Cause.GIVEN_BACK, Cause.PREEMPTED)


@dataclass
class Claim:
    """One claim of a worker, from the timeline."""

    began: Entry
    ended_at: int
    #: The claims before it.
    number: int
    first_token_at: int = 0
    #: Why it was interrupted; empty: it ended the job, or handed it over.
    cause: str = ""
    tokens: int = 0
    #: How long nothing was heard of it before it was interrupted.
    silent_s: float = 0.0
    batches: list[Entry] = field(default_factory=list)

    @property
    def id(self) -> str:
        """The claim id."""
        return str(self.began.details.get("claim", ""))


def job_spans(
    job: JobHead, entries: Sequence[Entry], stages: Sequence[Event], provider_of: Callable[[str], Provider | None]
) -> list[Span]:
    """All spans of a job: itself, and below it when it waited, its claims, and what these did.

    `stages`: the journal of a deployment. `provider_of`: who serves a model; None: we do.
    """
    claims = _claims(entries, job.finished_at)
    spans = [_whole(job, entries, claims, provider_of), *_waits(job, entries)]
    for claim in claims:
        before = claims[claim.number - 1] if claim.number else None
        spans += _of_claim(job, claim, before, provider_of(str(claim.began.details.get("model", ""))))
    return [*spans, *_stages(job, stages)]


def _whole(
    job: JobHead, entries: Sequence[Entry], claims: Sequence[Claim], provider_of: Callable[[str], Provider | None]
) -> Span:
    first = next((entry.at for entry in entries if entry.what == "first_token"), 0)
    error = str(job.error.get("reason") or "failed") if job.state is JobState.FAILED else ""
    attributes: dict[str, Value] = {
        "headrace.job.id": job.id,
        "headrace.job.state": job.word,
        "headrace.job.claims": len(claims),
        "headrace.key.id": job.key_id,
        "headrace.request.id": job.request_id,
        "headrace.cancel.reason": job.cancel_reason or None,
    }
    if job.kind in (DEPLOYMENT, ADDITION):
        attributes["headrace.model"] = job.model
    else:
        attributes |= {**_gen_ai(job, provider_of(job.runs_on)), **_usage(job)}
        attributes["gen_ai.response.time_to_first_chunk"] = _seconds(job.created_at, first)
    name, above = f"{OPERATIONS[job.kind]} {job.model}", job.trace.span_id
    return Span(name, job.span, above, job.created_at, job.finished_at, attributes, error)


def _gen_ai(job: JobHead, provider: Provider | None) -> Attributes:
    return {
        "gen_ai.operation.name": OPERATIONS[job.kind],
        "gen_ai.provider.name": provider.name if provider else OURS,
        "gen_ai.request.model": job.model,
        "gen_ai.response.model": job.served_as,
        "gen_ai.response.id": job.id,
    }


def _usage(job: JobHead) -> Attributes:
    def detail(group: str, name: str) -> int | None:
        found = job.usage.get(group)
        return found.get(name) if isinstance(found, dict) else None

    return {
        "gen_ai.usage.input_tokens": job.usage.get("prompt_tokens"),
        "gen_ai.usage.output_tokens": job.usage.get("completion_tokens"),
        "gen_ai.usage.cache_read.input_tokens": detail("prompt_tokens_details", "cached_tokens"),
        "gen_ai.usage.reasoning.output_tokens": detail("completion_tokens_details", "reasoning_tokens"),
    }


def _waits(job: JobHead, entries: Sequence[Entry]) -> Iterator[Span]:
    """One span for each time that it waited for a worker."""
    since, number, position = job.created_at, 0, 0
    waits = True
    for entry in entries:
        if entry.what == "queued":
            position = int(entry.number("position"))
        elif entry.what in ("interrupted", "handed_over"):
            since, waits, position = entry.at, True, 0
        elif waits and (entry.what == "claimed" or entry.what in ENDS):
            attributes = {"headrace.queue.position": position or None}
            context = job.trace.below(job.id, "queue", str(number))
            yield Span("queue", context, job.span.span_id, since, entry.at, attributes)
            waits, number = False, number + 1


def _claims(entries: Sequence[Entry], ended_at: int) -> list[Claim]:
    """The claims in their order. `ended_at`: when the job has ended."""
    claims: list[Claim] = []
    for entry in entries:
        if entry.what == "claimed":
            claims.append(Claim(entry, ended_at, len(claims)))
            continue
        if not claims:
            continue
        claim = claims[-1]
        if entry.what == "first_token":
            claim.first_token_at = entry.at
        if entry.what in ("first_token", "batch"):
            claim.batches.append(entry)
        elif entry.what in ("interrupted", "handed_over"):
            claim.ended_at, claim.tokens = entry.at, int(entry.number("tokens"))
            claim.silent_s = entry.number("silent_s")
            claim.cause = str(entry.details.get("cause", ""))
    return claims


def _of_claim(job: JobHead, claim: Claim, before: Claim | None, provider: Provider | None) -> Iterator[Span]:
    context, began = job.claim_span(claim.id), claim.began
    worker = str(began.details.get("worker", ""))
    attributes: dict[str, Value] = {
        "headrace.claim.id": claim.id,
        "headrace.worker": worker,
        "headrace.claim.replayed_tokens": int(began.number("behind_tokens")),
        "headrace.claim.cause": claim.cause or None,
        "headrace.claim.tokens": claim.tokens or None,
        "headrace.claim.silent_seconds": claim.silent_s or None,
    }
    name = "claim"
    if provider:
        name = f"{OPERATIONS[job.kind]} {began.details.get('model')}"
        attributes |= {**_gen_ai(job, provider), **_server(provider)}
    error = "" if claim.cause in _WELL else claim.cause
    links = [job.claim_span(before.id)] if before else []
    yield Span(
        name,
        context,
        job.span.span_id,
        began.at,
        claim.ended_at,
        attributes,
        error,
        outgoing=provider is not None,
        worker=worker,
        links=links,
    )
    if provider or not claim.first_token_at:
        return
    first, above = claim.first_token_at, context.span_id
    yield Span("prefill", job.trace.below(job.id, claim.id, "prefill"), above, began.at, first, worker=worker)
    sizes = [("batch", entry.at, {"headrace.batch.size": int(entry.number("batch"))}) for entry in claim.batches]
    decode = job.trace.below(job.id, claim.id, "decode")
    yield Span("decode", decode, above, first, claim.ended_at, worker=worker, events=sizes)


def _server(provider: Provider) -> Attributes:
    url = urlsplit(provider.url)
    return {"server.address": url.hostname, "server.port": url.port or (443 if url.scheme == "https" else 80)}


def _stages(job: JobHead, events: Sequence[Event]) -> Iterator[Span]:
    """The stages of each replica, from the events that began and ended them."""
    began: dict[tuple[str, str], int] = {}
    for event in events:
        if event.type is not EventType.STAGE:
            continue
        replica, stage, status = str(event.body.get("replica", "")), event.body["stage"], event.body["status"]
        if status == "in_progress":
            began.setdefault((replica, stage), event.body["at"])
        elif since := began.pop((replica, stage), 0):
            context = job.trace.below(job.id, replica, stage, str(since))
            attributes = {"headrace.replica": replica or None}
            error = "" if status == "completed" else str(status)
            yield Span(stage, context, job.span.span_id, since, event.body["at"], attributes, error)


def _seconds(since: int, at: int) -> float | None:
    return max(0, at - since) / 1000 if at else None
