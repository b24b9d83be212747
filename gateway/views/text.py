"""Chats and completions as clients see them: the chunks of a stream, and the whole answer. Knows no face."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any

from gateway.jobs.answer import extras, tool_calls
from gateway.jobs.events import Event, EventType
from gateway.jobs.journal import (
    Choice,
    Logprob,
    deltas,
    echoed_by_worker,
    fold,
    follow,
    num_choices,
    prompts_of,
    served_by,
    usage,
    voids,
)
from gateway.jobs.record import Job

#: Fields of a delta that clients see.
_SHOWN = ("echo", "text", "finish", "tool_calls", "extra", "lp", "prompt_lp")


def echo(job: Job, index: int) -> str:
    """The prompt, if the request asks for it before the text of a choice, and the journal does not have it."""
    if not job.request.get("echo") or echoed_by_worker(job.request):
        return ""
    return str(prompts_of(job.request)[index // int(job.request.get("n") or 1)])


def envelope(job: Job, *, chunk: bool) -> dict[str, Any]:
    """The fields that every chunk or answer of a job begins with."""
    kind = {"chat": "chat.completion.chunk" if chunk else "chat.completion"}.get(job.kind, "text_completion")
    return {"id": job.id, "object": kind, "created": job.created_at // 1000, "model": job.served_as}


def chunks(job: Job, event: Event) -> list[dict[str, Any]]:
    """The stream chunks for one event; an event without visible effect gives none."""
    head = envelope(follow(job, event), chunk=True)
    body = event.body
    if event.type is EventType.STARTED and job.kind == "chat":
        first = {"delta": {"role": "assistant", "content": ""}, "finish_reason": None}
        return [{**head, "choices": [{"index": i, **first} for i in range(num_choices(job))]}]
    if event.type is EventType.STARTED and job.request.get("echo") and not echoed_by_worker(job.request):
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
    """Chunks that replace all chunks so far: the texts, then the other fields of the choices."""
    texts = {str(i): echo(job, i) for i in range(num_choices(job))} if event.seq else {}
    for index, text in event.body.get("text", {}).items():
        texts[index] = texts.get(index, "") + text
    stands = {"seq": event.seq, "text": {index: text for index, text in texts.items() if text}}
    name = "snapshot" if event.type is EventType.COMPACTED else "rewound"
    rest = [{**head, "choices": [_choice(job, part)]} for part in event.body.get("choices", ())]
    return [{**head, "choices": [], name: stands}, *rest]


def delta(job: Job, body: Mapping[str, Any]) -> dict[str, Any] | None:
    """The `choices` entry of a delta event, or None if it has nothing to show."""
    return _choice(job, body) if any(body.get(name) for name in _SHOWN) else None


def _choice(job: Job, body: Mapping[str, Any]) -> dict[str, Any]:
    text, finish = body.get("echo", "") + body.get("text", ""), body.get("finish")
    calls = tool_calls.merge(body.get("tool_calls", ()))
    shown = extras.merge(body.get("extra", ()))
    shown |= {name: value for name, value in (("content", text), ("tool_calls", calls)) if value}
    content: dict[str, Any] = {"delta": shown} if job.kind == "chat" else {"text": text}
    choice = {"index": body.get("index", 0), **content, "finish_reason": finish}
    if entries := [*body.get("prompt_lp", ()), *body.get("lp", ())]:
        choice["logprobs"] = _logprobs(job, body.get("index", 0), entries)
    return choice


def answer(job: Job, events: Iterable[Event]) -> dict[str, Any]:
    """The full answer of a job that is done, or the partial one of a cancelled job."""
    journal = list(events)
    models = served_by(job, journal)
    if models[-1] != job.served_as:
        job = replace(job, route=models[-1], adapter="")
    folded = fold(journal, num_choices=num_choices(job))
    choices = []
    for index, choice in enumerate(folded):
        content: dict[str, Any] = {"text": echo(job, index) + choice.echo + choice.text}
        if job.kind == "chat":
            content = {"message": _message(choice)}
        entry = {**content, "index": index, "finish_reason": choice.finish_reason}
        if job.request.get("logprobs"):
            entry["logprobs"] = _logprobs(job, index, [*choice.prompt_logprobs, *choice.logprobs])
        choices.append(entry)
    others = {"served_by": models} if models != [job.model] else {}
    return {**envelope(job, chunk=False), "choices": choices, "usage": usage(journal), **others}


def _message(choice: Choice) -> dict[str, Any]:
    calls, extra = tool_calls.whole(choice.tool_calls), extras.merge(choice.extra)
    text = choice.text or None if calls or extra.get("refusal") else choice.text
    return {**extra, "role": "assistant", "content": text, **({"tool_calls": calls} if calls else {})}


def _logprobs(job: Job, index: int, entries: Sequence[Logprob]) -> dict[str, Any]:
    if job.kind == "chat":
        content = [{**_token(entry), "top_logprobs": [_token(one) for one in likely(entry)]} for entry in entries]
        return {"content": content}
    shown = {"tokens": [entry[0] for entry in entries], "token_logprobs": [entry[1] for entry in entries]}
    wanted = int(job.request.get("top_logprobs") or 0)
    top = [_by_text(entry) for entry in entries] if wanted else None
    return {**shown, "top_logprobs": top, "text_offset": _offsets(len(echo(job, index)), entries)}


def _token(entry: Logprob) -> dict[str, Any]:
    return {"token": entry[0], "logprob": entry[1], "bytes": list(_bytes(entry))}


def likely(entry: Logprob) -> list[Logprob]:
    """The likeliest tokens at the place of one, as entries without an offset."""
    found = entry[4] if len(entry) > 4 else ()
    return [[text, logprob, 0, *more] for text, logprob, *more in found]


def _by_text(entry: Logprob) -> dict[str, float] | None:
    """The same by their texts, with the token itself; of tokens with the same text the likeliest. None: the first."""
    if entry[1] is None:
        return None
    found: dict[str, float] = {}
    for text, logprob, *_ in likely(entry):
        found.setdefault(text, logprob)
    found.setdefault(entry[0], entry[1])
    return found


def _offsets(first: int, entries: Sequence[Logprob]) -> list[int]:
    """The offset of each token in the text that is sent, in characters: as recorded, else counted."""
    counted = accumulate((len(entry[0]) for entry in entries), initial=0)
    return [first + (entry[2] if len(entry) > 2 else at) for entry, at in zip(entries, counted, strict=False)]


def _bytes(entry: Logprob) -> bytes:
    return bytes.fromhex(entry[3]) if len(entry) > 3 and entry[3] else str(entry[0]).encode()
