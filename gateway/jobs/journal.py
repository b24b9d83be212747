"""Folds the entries of a journal: choices, usage, errors. Does not know what clients are shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from gateway.errors import GenerationFailed, HeadraceError, JobNotFound, Unreadable
from gateway.jobs.answer import extras, tool_calls
from gateway.jobs.events import Event, EventType
from gateway.jobs.record import Job
from gateway.store.checks import MAX_INDEXES

#: Where OpenAI's usage object has the details of tokens.
_DETAILS = (("prompt_tokens_details", "cached_tokens"), ("completion_tokens_details", "reasoning_tokens"))
#: The text of a token, its natural log probability, its offset in the text of its choice, in characters, its bytes as
#: hex digits if they are not those of the text (else empty, or left out at the end), and the likeliest tokens at its
#: place, the best first: text, log probability and perhaps bytes of each. Of the first token of a prompt the log
#: probability is null. Journals of older versions have only the first two of remote models.
Logprob = Sequence[Any]


@dataclass
class Choice:
    """One answer, as far as the journal has it."""

    #: The prompt, where the worker writes it, see `echoed_by_worker`.
    echo: str = ""
    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    #: See `Logprob`.
    logprobs: list[Logprob] = field(default_factory=list)
    #: The same for the tokens of the prompt, if they are asked for.
    prompt_logprobs: list[Logprob] = field(default_factory=list)
    #: Fragments, see `gateway/jobs/answer/tool_calls.py`.
    tool_calls: list[Mapping[str, Any]] = field(default_factory=list)
    #: Pieces of what a provider has put beside them, see `gateway/jobs/answer/extras.py`.
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
            choice.echo += body.get("echo", "")
            choice.text += body.get("text", "")
            choice.token_ids += body.get("ids", ())
            choice.logprobs += body.get("lp", ())
            choice.prompt_logprobs += body.get("prompt_lp", ())
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
        "echo": choice.echo,
        "text": choice.text,
        "lp": choice.logprobs,
        "prompt_lp": choice.prompt_logprobs,
        "tool_calls": tool_calls.merge(choice.tool_calls),
        "extra": [extras.merge(choice.extra)] if choice.extra else [],
        "finish": choice.finish_reason,
    }
    return {name: value for name, value in body.items() if value}


def restarts(event: Event) -> bool:
    """Whether the choices that have not ended start again, which voids their text so far."""
    return event.type is EventType.RESUMED and event.body.get("mode") == "restart"


def voids(event: Event) -> bool:
    """Whether the event voids the answer that a client has so far; it has the text that is valid instead."""
    return event.type in (EventType.REWOUND, EventType.COMPACTED) or restarts(event)


def num_indexes(events: Iterable[Event]) -> int:
    """The highest choice index in a journal, plus 1. Raises: ValueError if that is more than a job can have."""
    found = 1 + max((int(body.get("index", 0)) for event in events for body in deltas(event)), default=0)
    if found > MAX_INDEXES:
        raise ValueError(f"the journal speaks of {found} choices")
    return found


def follow(job: Job, event: Event) -> Job:
    """The job after this event: another model may have taken over."""
    model = event.body.get("model")
    takes_over = event.type in (EventType.STARTED, EventType.RESUMED, EventType.SNAPSHOT)
    return replace(job, route=model, adapter="") if model and takes_over and model != job.runs_on else job


def served_by(job: Job, events: Iterable[Event]) -> list[str]:
    """The models that worked on an answer, in order; usually only the one that was asked for."""
    names: list[str] = []
    for event in events:
        job = follow(job, event)
        if event.type is EventType.SNAPSHOT:
            names = list(event.body.get("served_by", names))
        elif event.type in (EventType.STARTED, EventType.RESUMED) and job.served_as not in names[-1:]:
            names.append(job.served_as)
    return names or [job.served_as]


def deltas(event: Event) -> Sequence[Mapping[str, Any]]:
    """The deltas in an event, each of one choice."""
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
    """Cached and reasoning tokens, from the last event that has them."""
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


def prompts_of(request: Mapping[str, Any]) -> list[Any]:
    """The prompts of a completion, texts or lists of token ids; a chat counts as one."""
    prompt = request.get("prompt", "")
    return list(prompt) if is_several(prompt) else [prompt]


def echoed_by_worker(request: Mapping[str, Any]) -> bool:
    """Whether the worker writes the prompt that is to come before the answer: it tells the text of token ids, or the
    offsets of tokens in it.
    """
    given_as_ids = any(isinstance(prompt, list) for prompt in prompts_of(request))
    return bool(request.get("echo")) and (given_as_ids or bool(request.get("logprobs")))


def num_prompts(prompt: Any) -> int:
    """How many prompts there are."""
    return len(prompt) if is_several(prompt) else 1


def is_several(prompt: Any) -> bool:
    """Whether it is a list of prompts. A list of token ids is one prompt."""
    return isinstance(prompt, list) and bool(prompt) and not isinstance(prompt[0], int)


def num_choices(job: Job) -> int:
    """How many answers the job has: n for each prompt."""
    return int(job.request.get("n") or 1) * len(prompts_of(job.request))


def failure(event: Event) -> HeadraceError | None:
    """The error that a terminal event means, or None."""
    if event.type is EventType.FAILED:
        return GenerationFailed.from_job(event.body["error"])
    if event.type is EventType.EXPIRED:
        return JobNotFound("The job's record has expired; nothing more can be read of it.", reason="expired")
    return None
