"""What a worker must know to continue a job that it, another worker, or another model has begun."""

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
    """The journal from the view of the model that takes the job: what others wrote, and what it wrote itself.

    It can't use the token ids of other models, so it continues from their text.
    """

    #: The text that other models wrote, by choice.
    before: Sequence[Choice]
    #: The events since this model took over.
    own: Sequence[Event]
    #: Tokens that other models used, as far as the journal has them.
    used: dict[str, int]
    #: The models that have tried, in order.
    tried: Sequence[str]
    #: How the previous model asked for it to go on: `continue`, `restart`, or empty if there was none.
    mode: str = ""
    #: `tokenizer` or `prompt` if the previous worker had another one, so that its token ids can't be used.
    changed: str = ""
    #: Digests of the weights, and names of the engines, that were used since this model took over.
    weights: frozenset[str] = frozenset()
    engines: frozenset[str] = frozenset()

    def announcement(self) -> dict[str, object]:
        """Fields of the event with which a model takes over from another: the mode, and the text that stays.

        Or with which a worker of the same model continues with another tokenizer or prompt: `changed`.
        """
        if self.changed:
            return {"mode": "continue", "changed": self.changed}
        if self.own or not self.tried:
            return {}
        text = {str(index): choice.text for index, choice in enumerate(self.before) if choice.text}
        return {"from": self.tried[-1], "mode": self.mode, **({"text": text} if self.mode == "restart" else {})}

    def read_by(self, *, tokenizer: str, prompt: str) -> ResumePoint:
        """The same for a worker with this tokenizer and this prompt, both as digests.

        Token ids of another tokenizer or prompt count as text. An event without digests is of an older version, or of a
        provider, and matches any.
        """
        mine = {"tokenizer": tokenizer, "prompt": prompt}
        at, last = 0, mine
        for index, event in enumerate(self.own):
            if event.type in _CLAIMS:
                digests = {name: str(event.body.get(name, last[name])) for name in mine}
                if digests != last:
                    at, last = index, digests
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
        weights, engines = (
            frozenset(str(e.body[name]) for e in own if e.type in _CLAIMS and e.body.get(name))
            for name in ("weights", "engine")
        )
        return cls(before, own, usage(journal[:at]), tried, mode, weights=weights, engines=engines)


def last_weights(journal: Sequence[Event]) -> str:
    """The digest of the weights of the last claim; empty if it has none."""
    return next((str(event.body.get("weights", "")) for event in reversed(journal) if event.type in _CLAIMS), "")


def _joined(first: Choice, second: Choice) -> Choice:
    """Join two parts of one answer. The token ids of the first part are dropped."""
    return Choice(
        echo=first.echo or second.echo,
        text=first.text + second.text,
        logprobs=first.logprobs + second.logprobs,
        prompt_logprobs=first.prompt_logprobs + second.prompt_logprobs,
        tool_calls=first.tool_calls + second.tool_calls,
        extra=first.extra + second.extra,
        finish_reason=second.finish_reason or first.finish_reason,
    )
