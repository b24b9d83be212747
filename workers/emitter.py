"""One job as a model worker runs it: engine output in, journal events out. Knows no Redis and no engine.

A resume replays the journal first: ids rebuild the detokenizer, published text is subtracted, and what EOS, stop
strings or max_tokens already decided is finished without the engine.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.jobs import MAX_BYTES_PER_APPEND, MAX_EVENTS_PER_APPEND, Append, Event, EventType, Job, JobState
from gateway.redis import dumps
from gateway.results import fold
from workers.engines.base import Sampling, SequenceOutput, SequenceRequest
from workers.text import IncrementalDetokenizer
from workers.tokenizer import Tokenizer


@dataclass
class Choice:
    """One answer: its prompt, what it has so far, and the detokenizer that turns ids into certain text."""

    index: int
    prompt_ids: list[int]
    detokenizer: IncrementalDetokenizer
    num_tokens: int = 0
    finish_reason: str | None = None
    #: Text that is certain but not yet in the journal (only after a resume).
    unsent: str = ""
    resumed_ids: list[int] = field(default_factory=list)
    #: The replay of the journal showed that it had ended.
    finished_on_resume: bool = False


class Run:
    """A claimed job. Only the emitter thread changes it after `requests` was called."""

    def __init__(
        self,
        job: Job,
        *,
        prompts: Sequence[list[int]],
        tokenizer: Tokenizer,
        max_tokens: int,
        journal: Sequence[Event] = (),
    ) -> None:
        self.job = job
        self.tokenizer = tokenizer
        self.max_tokens = max_tokens
        self.finished = threading.Event()
        self.cancelling = False
        #: Events that this claim has written or will write, by their place from `first_seq`.
        self.first_seq = job.seq + 1
        self.events: list[str] = []
        #: What is not an event yet: the delta of each choice since the last append, by index.
        self._open: dict[int, dict[str, Any]] = {}
        #: Somebody waits for what is new: it begins, or it ends.
        self.urgent = False
        self.state: JobState | None = None
        self.error: dict[str, str] = {}
        #: Events that Redis has confirmed.
        self.confirmed = 0
        self.new_tokens = 0
        n = int(job.request.get("n") or 1)
        stop = list(job.request.get("stop") or ())
        self.prompt_tokens = sum(map(len, prompts))
        self.choices = [
            Choice(i, prompt, IncrementalDetokenizer(tokenizer, stop))
            for i, prompt in enumerate(prompt for prompt in prompts for _ in range(n))
        ]
        self._eos = set(tokenizer.eos_ids)
        self._want_logprobs = bool(job.request.get("logprobs"))
        if journal:
            self._replay(journal)

    def begin(self, info: Mapping[str, Any]) -> None:
        """Write the first event of this claim: `started`, or `resumed` if the journal holds tokens."""
        kind = EventType.RESUMED if self.job.seq else EventType.STARTED
        self._event(kind, {"prompt_tokens": self.prompt_tokens, **info})
        for choice in self.choices:
            if choice.unsent or choice.finished_on_resume:
                body = {"index": choice.index, "text": choice.unsent, "finish": choice.finish_reason}
                self._event(EventType.DELTA, {name: value for name, value in body.items() if value})
        self._end_if_all_finished()

    def requests(self, first_sequence_id: int) -> list[SequenceRequest]:
        """What to ask of the engine, for the choices that are not finished: ids count up from the given one."""
        wanted = self.job.request
        seed = wanted.get("seed")
        return [
            SequenceRequest(
                sequence_id=first_sequence_id + choice.index,
                prompt_ids=choice.prompt_ids + choice.resumed_ids,
                sampling=Sampling(
                    max_tokens=self.max_tokens - choice.num_tokens,
                    temperature=float(wanted["temperature"]),
                    top_p=float(wanted["top_p"]),
                    top_k=int(wanted.get("top_k") or 0),
                    seed=None if seed is None else int(seed) + choice.index,
                    presence_penalty=float(wanted.get("presence_penalty") or 0),
                    frequency_penalty=float(wanted.get("frequency_penalty") or 0),
                    repetition_penalty=float(wanted.get("repetition_penalty") or 1),
                    logprobs=self._want_logprobs,
                ),
                eos_ids=list(self._eos),
                key=f"{self.job.id}/{choice.index}",
                generated=choice.num_tokens,
            )
            for choice in self.choices
            if choice.finish_reason is None
        ]

    def take(self, index: int, output: SequenceOutput) -> bool:
        """Add what the engine made for one choice. True if its sequence must be stopped (a stop string matched)."""
        choice = self.choices[index]
        if choice.finish_reason is not None or self.state is not None:
            return False
        if output.finish_reason == "error":
            self.fail("invalid_request", output.error or "the engine refused the request")
            return False
        text, stopped, kept = choice.detokenizer.push(output.token_ids, final=output.finish_reason is not None)
        ids = output.token_ids[:kept]
        choice.num_tokens += kept
        self.new_tokens += kept
        choice.finish_reason = "stop" if stopped else output.finish_reason
        self.urgent = self.urgent or self.new_tokens == kept or choice.finish_reason is not None
        self._extend(index, ids, text, output.logprobs)
        if choice.finish_reason:
            self._open[index]["finish"] = choice.finish_reason
        self._end_if_all_finished()
        return stopped and output.finish_reason is None

    def _extend(self, index: int, ids: Sequence[int], text: str, logprobs: Sequence[float] | None) -> None:
        """Add to the open delta of a choice."""
        body = self._open.get(index)
        if body is None:
            body = self._open[index] = {"ids": [], "index": index} if index else {"ids": []}
        body["ids"] += ids
        if text:
            body["text"] = body.get("text", "") + text
        if logprobs is not None and self._want_logprobs:
            pieces = [self.tokenizer.decode([i]) for i in ids]
            body.setdefault("lp", []).extend(zip(pieces, logprobs, strict=False))

    def cancel(self) -> None:
        """End it as cancelled."""
        if self.state is None:
            self.state = JobState.CANCELLED
            self._event(EventType.CANCELLED, {"reason": "client_request"})

    def fail(self, reason: str, message: str) -> None:
        """End it as failed."""
        if self.state is None:
            self.state = JobState.FAILED
            self.error = {"reason": reason, "message": message}
            self._event(EventType.FAILED, {"error": self.error})

    @property
    def settled(self) -> bool:
        """Whether Redis has confirmed all that there is."""
        return not self._open and self.confirmed == len(self.events)

    def unconfirmed(self) -> Append | None:
        """What Redis has not confirmed yet, or None. From here on it is sent in just these events, however often."""
        self._close_deltas()
        self.urgent = False
        if self.confirmed == len(self.events):
            return None
        events = self._next_events()
        fields, state = {}, None
        if self.confirmed + len(events) == len(self.events) and self.state is not None:
            state, fields = self.state, {"usage": dumps(self._usage())}
            if self.error:
                fields["error"] = dumps(self.error)
        return Append(self.job.id, self.job.claim, self.first_seq + self.confirmed, events, state, fields)

    def _next_events(self) -> list[str]:
        """As many unconfirmed events as one append may hold; at least one."""
        events = self.events[self.confirmed : self.confirmed + MAX_EVENTS_PER_APPEND]
        size = 0
        for count, event in enumerate(events):
            size += len(event)
            if size > MAX_BYTES_PER_APPEND and count:
                return events[:count]
        return events

    def rewind(self, seq: int) -> bool:
        """The journal ends at `seq`: send again what follows. False if that is older than this claim."""
        if seq < self.first_seq - 1:
            return False
        self.confirmed = seq - self.first_seq + 1
        return True

    def _event(self, kind: EventType, body: Mapping[str, Any]) -> None:
        """Add an event behind the deltas so far."""
        self._close_deltas()
        self.urgent = True
        self.events.append(dumps({"type": kind.value, "c": self.job.claim, **body}))

    def _close_deltas(self) -> None:
        for body in self._open.values():
            self.events.append(dumps({"type": EventType.DELTA.value, "c": self.job.claim, **body}))
        self._open = {}

    def _usage(self) -> dict[str, int]:
        completion = sum(choice.num_tokens for choice in self.choices)
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": completion,
            "total_tokens": self.prompt_tokens + completion,
        }

    def _end_if_all_finished(self) -> None:
        if self.state is None and all(choice.finish_reason for choice in self.choices):
            self.state = JobState.DONE
            self._event(EventType.DONE, {"usage": self._usage()})

    def _replay(self, journal: Sequence[Event]) -> None:
        for choice, old in zip(self.choices, fold(journal, num_choices=len(self.choices)), strict=True):
            choice.resumed_ids = old.token_ids
            choice.num_tokens = len(old.token_ids)
            choice.finish_reason = old.finish_reason
            if old.finish_reason:
                continue
            over = choice.num_tokens >= self.max_tokens or bool(self._eos & set(old.token_ids[-1:]))
            text, stopped, _ = choice.detokenizer.push(old.token_ids, final=over)
            choice.unsent = text[len(old.text) :]
            if stopped or over:
                ended_by_eos = stopped or bool(self._eos & set(old.token_ids[-1:]))
                choice.finish_reason = "stop" if ended_by_eos else "length"
                choice.finished_on_resume = True
