"""Turns journal entries into what clients see: chunks, full answers, errors. Knows nothing of HTTP or gRPC."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Any

from gateway.deployments import views as deployment_views
from gateway.errors import GenerationFailed, HeadraceError, JobNotFound, Unreadable
from gateway.jobs import extras, tool_calls
from gateway.jobs.record import Event, EventType, Job
from gateway.store.checks import MAX_INDEXES
from gateway.views import embeddings

#: Fields of a delta that has nothing but text to show.
PLAIN = frozenset({"type", "c", "index", "text", "ids"})
#: Where OpenAI's usage has the tokens of which a provider tells more.
_DETAILS = (("prompt_tokens_details", "cached_tokens"), ("completion_tokens_details", "reasoning_tokens"))
#: The text of a token, its log probability, where it begins in the text of its choice, in characters, and its bytes as
#: hex digits where they are not those of the text. Journals of older versions have only the first two of remote models.
Logprob = Sequence[Any]


@dataclass
class Choice:
    """One answer as the journal has it so far."""

    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    #: Token, log probability, and, if it is known, where it begins in the text; see `Logprob`.
    logprobs: list[Logprob] = field(default_factory=list)
    #: Fragments, see `gateway/jobs/tool_calls.py`.
    tool_calls: list[Mapping[str, Any]] = field(default_factory=list)
    #: Pieces of what a provider has put beside them, see `gateway/jobs/extras.py`.
    extra: list[Mapping[str, Any]] = field(default_factory=list)
    finish_reason: str | None = None


def fold(events: Iterable[Event], *, num_choices: int = 1) -> list[Choice]:
    """The choices that a journal adds up to, by index. Raises: Unreadable."""
    choices = [Choice() for _ in range(num_choices)]
    for event in events:
        if restarts(event):
            choices = [choice if choice.finish_reason else Choice() for choice in choices]
        for body in deltas(event):
            index = body.get("index", 0)
            if index >= num_choices:
                raise Unreadable(f"Entry {event.seq} is of choice {index}, and the job has {num_choices}.")
            choice = choices[index]
            choice.text += body.get("text", "")
            choice.token_ids += body.get("ids", ())
            choice.logprobs += body.get("lp", ())
            choice.tool_calls += body.get("tool_calls", ())
            choice.extra += body.get("extra", ())
            choice.finish_reason = body.get("finish") or choice.finish_reason
        if event.type is EventType.CANCELLED:
            for choice in choices:
                choice.finish_reason = choice.finish_reason or "cancelled"
    return choices


def as_delta(index: int, choice: Choice) -> dict[str, Any]:
    """A choice as the body of one delta, without its token ids."""
    body = {
        "index": index,
        "text": choice.text,
        "lp": choice.logprobs,
        "tool_calls": tool_calls.merge(choice.tool_calls),
        "extra": [extras.merge(choice.extra)] if choice.extra else [],
        "finish": choice.finish_reason,
    }
    return {name: value for name, value in body.items() if value}


def restarts(event: Event) -> bool:
    """Whether the choices that have not ended begin anew, so that their text so far does not count any more."""
    return event.type is EventType.RESUMED and event.body.get("mode") == "restart"


def voids(event: Event) -> bool:
    """Whether what a client has had of the answer is void: the event says what stands instead."""
    return event.type in (EventType.REWOUND, EventType.COMPACTED) or restarts(event)


def num_indexes(events: Iterable[Event]) -> int:
    """How many choices a journal speaks of, at least. Raises: ValueError if that is more than any job can have."""
    found = 1 + max((int(body.get("index", 0)) for event in events for body in deltas(event)), default=0)
    if found > MAX_INDEXES:
        raise ValueError(f"the journal speaks of {found} choices")
    return found


def follow(job: Job, event: Event) -> Job:
    """The job as it is from this event on: another model may have taken over."""
    model = event.body.get("model")
    takes_over = event.type in (EventType.STARTED, EventType.RESUMED, EventType.SNAPSHOT)
    return replace(job, route=model) if model and takes_over and model != job.runs_on else job


def served_by(job: Job, events: Iterable[Event]) -> list[str]:
    """The models that have worked on an answer, in their order; usually the one that was asked."""
    names: list[str] = []
    for event in events:
        job = follow(job, event)
        if event.type is EventType.SNAPSHOT:
            names = list(event.body.get("served_by", names))
        elif event.type in (EventType.STARTED, EventType.RESUMED) and job.runs_on not in names[-1:]:
            names.append(job.runs_on)
    return names or [job.runs_on]


def deltas(event: Event) -> Sequence[Mapping[str, Any]]:
    """The deltas that an event holds: each is of one choice."""
    if event.type is EventType.SNAPSHOT:
        return list(event.body["choices"])
    return [event.body] if event.type is EventType.DELTA else []


def usage(events: Iterable[Event]) -> dict[str, Any]:
    """Tokens of a job, counted from its journal."""
    journal = list(events)
    prompt = completion = 0
    for event in journal:
        prompt = event.body.get("prompt_tokens", prompt)
        completion += len(event.body.get("ids", ())) + event.body.get("completion_tokens", 0)
    return as_usage(prompt, completion, last_details(journal))


def last_details(events: Iterable[Event]) -> Counter[str]:
    """Tokens that a provider had in its cache, and those that nobody sees, by the last event that knows of them."""
    details: Counter[str] = Counter()
    for event in events:
        found = {name: event.body[name] for _, name in _DETAILS if name in event.body}
        details = Counter(found) if found else details
    return details


def as_usage(prompt: int, completion: int, details: Mapping[str, int]) -> dict[str, Any]:
    """Tokens in OpenAI's form; details that are zero are left out."""
    whole: dict[str, Any] = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }
    return whole | {group: {name: details[name]} for group, name in _DETAILS if details.get(name)}


def prompts(job: Job) -> list[str]:
    """The prompts of a completion; a chat counts as one."""
    prompt = job.request.get("prompt", "")
    return [prompt] if isinstance(prompt, str) else list(prompt)


def num_choices(job: Job) -> int:
    """How many answers the job has: n for each prompt."""
    return int(job.request.get("n") or 1) * len(prompts(job))


def echo(job: Job, index: int) -> str:
    """What stands before the text of a choice: its prompt, if the request wants it."""
    return prompts(job)[index // int(job.request.get("n") or 1)] if job.request.get("echo") else ""


def envelope(job: Job, *, chunk: bool) -> dict[str, Any]:
    """The fields that every chunk or answer of a job begins with."""
    kind = {"chat": "chat.completion.chunk" if chunk else "chat.completion"}.get(job.kind, "text_completion")
    return {"id": job.id, "object": kind, "created": job.created_at // 1000, "model": job.runs_on}


def chunks(job: Job, event: Event) -> list[dict[str, Any]]:
    """The stream chunks for one event; an event without visible effect gives none."""
    if job.kind == "embedding":
        return embeddings.chunks(job, event)
    if job.kind == "deployment":
        shown = deployment_views.chunk(job, event)
        return [shown] if shown else []
    head = envelope(follow(job, event), chunk=True)
    body = event.body
    if event.type is EventType.STARTED and job.kind == "chat":
        first = {"delta": {"role": "assistant", "content": ""}, "finish_reason": None}
        return [{**head, "choices": [{"index": i, **first} for i in range(num_choices(job))]}]
    if event.type is EventType.STARTED and job.request.get("echo"):
        texts = [{"index": i, "text": echo(job, i), "finish_reason": None} for i in range(num_choices(job))]
        return [{**head, "choices": texts}]
    if event.type in (EventType.DELTA, EventType.SNAPSHOT):
        choices = [choice for part in deltas(event) if (choice := delta(job, part))]
        return [{**head, "choices": [choice]} for choice in choices]
    if voids(event):
        return _void(job, event, head)
    if event.type is EventType.CANCELLED:
        empty: dict[str, Any] = {"delta": {}} if job.kind == "chat" else {"text": ""}
        cancelled = [{"index": i, **empty, "finish_reason": "cancelled"} for i in range(num_choices(job))]
        return [{**head, "choices": cancelled}]
    if event.type is EventType.DONE and (job.request.get("stream_options") or {}).get("include_usage"):
        return [{**head, "choices": [], "usage": body.get("usage", {})}]
    return []


def _void(job: Job, event: Event, head: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What stands in the place of all chunks so far: the texts, then what else the choices have."""
    texts = {str(i): echo(job, i) for i in range(num_choices(job))} if event.seq else {}
    for index, text in event.body.get("text", {}).items():
        texts[index] = texts.get(index, "") + text
    stands = {"seq": event.seq, "text": {index: text for index, text in texts.items() if text}}
    name = "snapshot" if event.type is EventType.COMPACTED else "rewound"
    rest = [{**head, "choices": [_choice(job, part)]} for part in event.body.get("choices", ())]
    return [{**head, "choices": [], name: stands}, *rest]


def delta(job: Job, body: Mapping[str, Any]) -> dict[str, Any] | None:
    """The `choices` entry of a delta event, or None if it has nothing to show."""
    return (
        _choice(job, body) if any(body.get(name) for name in ("text", "finish", "tool_calls", "extra", "lp")) else None
    )


def _choice(job: Job, body: Mapping[str, Any]) -> dict[str, Any]:
    text, finish = body.get("text", ""), body.get("finish")
    calls = tool_calls.merge(body.get("tool_calls", ()))
    shown = extras.merge(body.get("extra", ()))
    shown |= {name: value for name, value in (("content", text), ("tool_calls", calls)) if value}
    content: dict[str, Any] = {"delta": shown} if job.kind == "chat" else {"text": text}
    choice = {"index": body.get("index", 0), **content, "finish_reason": finish}
    if body.get("lp"):
        choice["logprobs"] = _logprobs(job, body.get("index", 0), body["lp"])
    return choice


def response(job: Job, events: Iterable[Event]) -> dict[str, Any]:
    """The full answer of a job that is done, or what a cancelled one had."""
    journal = list(events)
    models = served_by(job, journal)
    job = replace(job, route=models[-1])
    folded = fold(journal, num_choices=num_choices(job))
    choices = []
    for index, choice in enumerate(folded):
        content: dict[str, Any] = {"text": echo(job, index) + choice.text}
        if job.kind == "chat":
            content = {"message": _message(choice)}
        entry = {**content, "index": index, "finish_reason": choice.finish_reason}
        if job.request.get("logprobs"):
            entry["logprobs"] = _logprobs(job, index, choice.logprobs)
        choices.append(entry)
    others = {"served_by": models} if models != [job.model] else {}
    return {**envelope(job, chunk=False), "choices": choices, "usage": usage(journal), **others}


def _message(choice: Choice) -> dict[str, Any]:
    calls, extra = tool_calls.whole(choice.tool_calls), extras.merge(choice.extra)
    text = choice.text or None if calls or extra.get("refusal") else choice.text
    return {**extra, "role": "assistant", "content": text, **({"tool_calls": calls} if calls else {})}


def failure(event: Event) -> HeadraceError | None:
    """The error that a terminal event means, or None."""
    if event.type is EventType.FAILED:
        return GenerationFailed.from_job(event.body["error"])
    if event.type is EventType.EXPIRED:
        return JobNotFound("The job's record has expired; nothing more can be read of it.", reason="expired")
    return None


def _logprobs(job: Job, index: int, entries: Sequence[Logprob]) -> dict[str, Any]:
    if job.kind == "chat":
        return {
            "content": [
                {"token": entry[0], "logprob": entry[1], "bytes": list(_bytes(entry)), "top_logprobs": []}
                for entry in entries
            ]
        }
    shown = {"tokens": [entry[0] for entry in entries], "token_logprobs": [entry[1] for entry in entries]}
    return {**shown, "top_logprobs": None, "text_offset": _offsets(len(echo(job, index)), entries)}


def _offsets(first: int, entries: Sequence[Logprob]) -> list[int]:
    """Where each token begins in the text that is sent, in characters: as it is known, else counted."""
    counted = accumulate((len(entry[0]) for entry in entries), initial=0)
    return [first + (entry[2] if len(entry) > 2 else at) for entry, at in zip(entries, counted, strict=False)]


def _bytes(entry: Logprob) -> bytes:
    return bytes.fromhex(entry[3]) if len(entry) > 3 else str(entry[0]).encode()
