"""What a job has received from its providers: text and end of each answer, and tokens, counted or estimated.

Knows no Redis and no SDK. One thread writes it at a time: the one that reads the provider's stream.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.inference.estimates import estimate_tokens
from gateway.jobs.answer.tool_calls import TEXTS, called_by
from gateway.jobs.events import Event, EventType
from gateway.jobs.journal import Choice, as_usage, fold, last_details, num_choices, prompts_of, usage
from gateway.jobs.record import Job
from gateway.jobs.resume_point import ResumePoint
from workers.providers.base import UpstreamDelta

#: Fields of a request that the model reads.
_READ = ("messages", "prompt", "input", "tools")
#: What stands beside an answer under another name, too: see `workers/providers/protocols/chunks.py`.
_TWICE = ("reasoning",)


@dataclass
class CallTokens:
    """Tokens of one call; estimated unless the provider has counted them."""

    prompt: int | None = None
    completion: int | None = None
    cached: int = 0
    reasoning: int = 0
    text_bytes: int = 0
    #: Something has arrived; a call without any output counts nothing.
    answered: bool = False
    #: The provider has sent its final count.
    counted: bool = False

    @property
    def made(self) -> int:
        """Tokens of the answer: what the provider says, but at least what is estimated, until it has counted them."""
        if self.counted or not self.answered:
            return self.completion or 0
        return max(self.completion or 0, estimate_tokens("x" * self.text_bytes))

    def take(self, piece: UpstreamDelta) -> None:
        """Add what a piece says."""
        self.answered = True
        self.text_bytes += len(piece.text.encode()) + sum(map(_size_of_call, piece.tool_calls))
        beside = piece.extra.items()
        self.text_bytes += sum(len(text) for name, text in beside if isinstance(text, str) and name not in _TWICE)
        if piece.prompt_tokens is not None:
            self.prompt = piece.prompt_tokens
        if piece.completion_tokens is not None:
            self.completion = piece.completion_tokens
        self.cached = piece.cached_tokens or self.cached
        self.reasoning = piece.reasoning_tokens or self.reasoning


class Transcript:
    """Starts from the journal, and grows with the deltas of calls."""

    def __init__(self, job: Job, journal: Sequence[Event] = ()) -> None:
        self.job = job
        self.resume_point = ResumePoint.from_journal(job, journal) if journal else None
        #: Models that had the job, or were skipped because their provider could not be asked.
        self.tried = {*(self.resume_point.tried if self.resume_point else ()), *_passed_over(journal)}
        size = num_choices(job)
        if self.resume_point is None:
            self.choices = [Choice() for _ in range(size)]
        elif self.resume_point.own:
            self.choices = fold(journal, num_choices=size)
        else:
            self.choices = list(self.resume_point.before)
        before = usage(journal)
        self._prompt, self._completion = before["prompt_tokens"], before["completion_tokens"]
        self._details = last_details(journal)
        self._recorded = self._completion
        self.estimated = False
        self._calls: list[CallTokens] = []
        if self.resume_point and self.resume_point.own and (lost := unrecorded(self.resume_point.own)) is not None:
            self._calls = [CallTokens(text_bytes=lost, answered=lost > 0)]
            self._close_calls()

    # -- what is left to do

    @property
    def missing(self) -> list[int]:
        """Answers that have not ended."""
        return [index for index, choice in enumerate(self.choices) if choice.finish_reason is None]

    @property
    def has_output(self) -> bool:
        """Whether clients have seen something of the answers that have not ended."""
        return any(self.choices[index].text or self.choices[index].tool_calls for index in self.missing)

    @property
    def continuable(self) -> bool:
        """Whether the unfinished answers have only text: a started tool call can't be continued, nor token ids."""
        if any(isinstance(prompt, list) for prompt in prompts_of(self.job.request)):
            return False
        return not self.has_calls

    @property
    def has_calls(self) -> bool:
        """Whether an unfinished answer has begun a call."""
        return any(self.choices[index].tool_calls for index in self.missing)

    def restart(self) -> dict[str, str]:
        """Void the unfinished answers. Returns the text that stays, by index."""
        self.choices = [choice if choice.finish_reason else Choice() for choice in self.choices]
        return {str(index): choice.text for index, choice in enumerate(self.choices) if choice.text}

    # -- calls

    def begin_call(self) -> CallTokens:
        """Count the tokens of one more call."""
        call = CallTokens()
        self._calls.append(call)
        return call

    def take(self, piece: UpstreamDelta, call: CallTokens) -> None:
        """Add a delta of a call."""
        call.take(piece)
        if piece.vector:
            return
        choice = self.choices[piece.index]
        choice.text += piece.text
        choice.tool_calls += piece.tool_calls
        choice.extra += [piece.extra] if piece.extra else []
        choice.finish_reason = piece.finish or choice.finish_reason

    # -- tokens

    @property
    def made(self) -> int:
        """Tokens of the answers so far, counted or estimated, with those of earlier claims and other models."""
        return int(self._completion) + sum(call.made for call in list(self._calls))

    def usage(self) -> dict[str, Any]:
        """Tokens of the job so far, with those of earlier claims and other models."""
        calls = [self._tokens(call) for call in self._calls]
        prompt = self._prompt + sum(tokens[0] for tokens in calls)
        completion = self._completion + sum(tokens[1] for tokens in calls)
        if self.job.kind == "embedding":
            return {"prompt_tokens": prompt, "total_tokens": prompt}
        return as_usage(prompt, completion, self._details + _details(self._calls))

    def record(self) -> dict[str, object]:
        """The fields of an event that records the tokens since the last such event. Ends the calls so far."""
        self._close_calls()
        new, self._recorded = self._completion - self._recorded, self._completion
        completion = {} if self.job.kind == "embedding" else {"completion_tokens": new, **self._details}
        return {"prompt_tokens": self._prompt, **completion, **({"estimated": True} if self.estimated else {})}

    def _close_calls(self) -> None:
        for call in self._calls:
            prompt, completion = self._tokens(call)
            self._prompt, self._completion = self._prompt + prompt, self._completion + completion
            self.estimated = self.estimated or (call.answered and not call.counted)
        self._details += _details(self._calls)
        self._calls = []

    def _tokens(self, call: CallTokens) -> tuple[int, int]:
        if call.counted or not call.answered or call.prompt is not None:
            return call.prompt or 0, call.made
        return estimate_tokens({name: self.job.request[name] for name in _READ if name in self.job.request}), call.made


def _size_of_call(fragment: Mapping[str, Any]) -> int:
    kind, called = called_by(fragment)
    return len((called or {}).get(TEXTS[kind]) or "")


def _details(calls: Sequence[CallTokens]) -> Counter[str]:
    return Counter(
        cached_tokens=sum(call.cached for call in calls), reasoning_tokens=sum(call.reasoning for call in calls)
    )


def _passed_over(journal: Sequence[Event]) -> list[str]:
    return [str(event.body["model"]) for event in journal if event.type is EventType.INTERRUPTED]


def unrecorded(own: Sequence[Event]) -> int | None:
    """Bytes of text from a call whose tokens no event has recorded; None if there is no such call."""
    size: int | None = None
    for event in own:
        if event.type in (EventType.STARTED, EventType.RESUMED):
            size = 0
        elif "completion_tokens" in event.body:
            size = None
        elif event.type is EventType.DELTA and size is not None:
            size += len(event.body.get("text", "").encode())
    return size
