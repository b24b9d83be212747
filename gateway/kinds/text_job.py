"""What chats and completions have in common: they make text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.inference.estimates import UNLIMITED_ANSWER, estimate_prompt
from gateway.inference.parameters import with_defaults
from gateway.jobs.events import Event
from gateway.jobs.job_kind import JobKind
from gateway.jobs.journal import num_prompts
from gateway.jobs.record import Job
from gateway.jobs.store import JobStore
from gateway.models.entry import Model
from gateway.views import text


class TextKind(JobKind):
    """A job whose answer is text, in one choice or several."""

    def complete(self, model: Model, request: Mapping[str, Any]) -> dict[str, Any]:
        """The request with the model's defaults. Raises: InvalidRequest."""
        return with_defaults(model, request)

    def estimate(self, model: Model, request: Mapping[str, Any]) -> int:
        """The prompt, and the longest answers that the request or the catalog allows, else usual ones."""
        longest = _limit(model, request, otherwise=min(model.longest_answer, UNLIMITED_ANSWER))
        return estimate_prompt(request) + self.slots(request) * longest

    def most(self, model: Model, request: Mapping[str, Any]) -> int:
        """The prompt, and the longest answers."""
        longest = _limit(model, request, otherwise=model.longest_answer)
        return estimate_prompt(request) + self.slots(request) * longest

    def slots(self, request: Mapping[str, Any]) -> int:
        """One for each answer: n for each prompt."""
        return int(request.get("n") or 1) * num_prompts(request.get("prompt"))

    def chunks(self, job: Job, event: Event) -> list[dict[str, Any]]:
        """Text as it comes."""
        return text.chunks(job, event)

    def text_head(self, job: Job) -> Mapping[str, Any]:
        """All but the choices."""
        return text.envelope(job, chunk=True)

    def answer(self, store: JobStore, job: Job, events: Sequence[Event]) -> dict[str, Any]:
        """The choices."""
        return text.answer(job, events)


def _limit(model: Model, request: Mapping[str, Any], *, otherwise: int) -> int:
    """The most tokens of one answer that the request asks for, or the catalog."""
    wanted = request.get("max_tokens")
    return int(model.default_max_tokens or otherwise if wanted is None else wanted)
