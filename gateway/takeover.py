"""What a worker must know of a job that was begun before: by itself, by another worker, or by another model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.job import Event, EventType, Job
from gateway.results import Choice, fold, num_choices, usage


@dataclass(frozen=True)
class Takeover:
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

    def announcement(self) -> dict[str, object]:
        """What the event says with which a model takes over from another: how, and the text that stays."""
        if self.own or not self.tried:
            return {}
        text = {str(index): choice.text for index, choice in enumerate(self.before) if choice.text}
        return {"from": self.tried[-1], "mode": self.mode, **({"text": text} if self.mode == "restart" else {})}

    @classmethod
    def of(cls, job: Job, journal: Sequence[Event]) -> Takeover:
        """Read a journal for the model that runs the job now."""
        tried: list[str] = []
        at, mode = 0, ""
        for index, event in enumerate(journal):
            if event.type in (EventType.STARTED, EventType.RESUMED):
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
        return cls(before, journal[at:], usage(journal[:at]), tried, mode)
