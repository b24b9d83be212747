"""What a worker must know of a job that was begun before: by itself, by another worker, or by another model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from gateway.jobs.events import Event, EventType
from gateway.jobs.journal import Choice, fold, num_choices, usage
from gateway.jobs.record import Job

#: Events with which a claim begins.
_CLAIMS = (EventType.STARTED, EventType.RESUMED)


@dataclass(frozen=True)
class ResumePoint:
    """The journal as a model sees it that takes a job: what others wrote, and what it wrote itself.

    Token ids of others mean nothing to it; it goes on from their text.
    """

    #: What other models have left: one choice each, with its text.
    before: Sequence[Choice]
    #: The events since this model took over.
    own: Sequence[Event]
    #: Tokens that others have used, as far as the journal knows.
    used: dict[str, int]
    #: Models that have tried, in order.
    tried: Sequence[str]
    #: How the model before this one wants it to go on: `continue`, `restart`, or empty if there was none.
    mode: str = ""
    #: `tokenizer` or `prompt`: that of the worker before was another, so that its ids mean nothing here.
    changed: str = ""
    #: Digests of the weights that have worked on the answer since this model took over.
    weights: frozenset[str] = frozenset()

    def announcement(self) -> dict[str, object]:
        """What the event says with which a model takes over from another: how, and the text that stays.

        Or one worker from another of the same model that reads or asks otherwise: what has changed.
        """
        if self.changed:
            return {"mode": "continue", "changed": self.changed}
        if self.own or not self.tried:
            return {}
        text = {str(index): choice.text for index, choice in enumerate(self.before) if choice.text}
        return {"from": self.tried[-1], "mode": self.mode, **({"text": text} if self.mode == "restart" else {})}

    def read_by(self, *, tokenizer: str, prompt: str) -> ResumePoint:
        """The same for a worker with this tokenizer and this prompt, both as digests.

        Ids that were written with another tokenizer, or behind another prompt, count as text. An event that says
        nothing of them is of an older version, or of a provider, and fits any.
        """
        mine = {"tokenizer": tokenizer, "prompt": prompt}
        at, last = 0, mine
        for index, event in enumerate(self.own):
            if event.type in _CLAIMS:
                said = {name: str(event.body.get(name, last[name])) for name in mine}
                if said != last:
                    at, last = index, said
        changed = next((name for name in mine if last[name] != mine[name]), "")
        if changed:
            at = len(self.own)
        if not at:
            return self
        own = fold(self.own[:at], num_choices=len(self.before))
        before = [_joined(first, second) for first, second in zip(self.before, own, strict=True)]
        used = dict(self.used)
        used["completion_tokens"] = used.get("completion_tokens", 0) + usage(self.own[:at])["completion_tokens"]
        return replace(self, before=before, own=self.own[at:], used=used, changed=changed)

    @classmethod
    def from_journal(cls, job: Job, journal: Sequence[Event]) -> ResumePoint:
        """Read a journal for the model that runs the job now."""
        tried: list[str] = []
        at, mode = 0, ""
        for index, event in enumerate(journal):
            if event.type in _CLAIMS:
                name = event.body.get("model", job.model)
                if name not in tried[-1:]:
                    tried.append(name)
                    at = index
            elif event.type is EventType.INTERRUPTED:
                mode = event.body.get("mode", "continue")
        if job.runs_on not in tried[-1:]:
            at = len(journal)
        elif len(tried) == 1:
            at, mode = 0, ""
        before = fold(journal[:at], num_choices=num_choices(job))
        if mode == "restart":
            before = [choice if choice.finish_reason else Choice() for choice in before]
        own = journal[at:]
        weights = frozenset(str(e.body["weights"]) for e in own if e.type in _CLAIMS and e.body.get("weights"))
        return cls(before, own, usage(journal[:at]), tried, mode, weights=weights)


def last_weights(journal: Sequence[Event]) -> str:
    """The digest of the weights that the last claim has run; empty if it says none."""
    return next((str(event.body.get("weights", "")) for event in reversed(journal) if event.type in _CLAIMS), "")


def _joined(first: Choice, second: Choice) -> Choice:
    """Two parts of one answer as one; the ids of the first mean nothing."""
    return Choice(
        text=first.text + second.text,
        logprobs=first.logprobs + second.logprobs,
        tool_calls=first.tool_calls + second.tool_calls,
        extra=first.extra + second.extra,
        finish_reason=second.finish_reason or first.finish_reason,
    )
