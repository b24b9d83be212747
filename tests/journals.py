"""A journal as claims write it one behind the other, without Redis; and a tokenizer that can be read by heart."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from gateway.jobs.events import Event
from gateway.jobs.record import Job, JobState
from gateway.jobs.resume_point import ResumePoint
from workers.engines.base import SequenceOutput
from workers.handlers.generation_run import Run
from workers.tokenizers.load import Messages

ASKED = {"temperature": 1.0, "top_p": 1.0, "seed": 5}
JOB = Job("chatcmpl-1", JobState.RUNNING, "chat", "m", "key", ASKED, claim="c")


class Letters:
    """A tokenizer whose tokens are letters, each `shift` further than its code."""

    eos_ids: tuple[int, ...] = ()
    control: Mapping[str, int] = {}
    template_texts: Sequence[str] = ()

    def __init__(self, shift: int) -> None:
        self.shift, self.digest = shift, f"letters-{shift}"

    def encode(self, text: str) -> list[int]:
        return [ord(letter) + self.shift for letter in text]

    def render_chat(self, messages: Messages, *, tools: Messages | None = None, at_ms: int = 0) -> list[int]:
        return self.encode("".join(str(message["content"]) for message in messages))

    def token_bytes(self, token_id: int) -> bytes:
        return chr(token_id - self.shift).encode()

    def decode(self, ids: Sequence[int]) -> str:
        return b"".join(map(self.token_bytes, ids)).decode()


class Journal:
    """A journal that claims write one behind the other."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def claim(
        self,
        tokenizer: Any,
        *,
        prompt: str | Sequence[int] = "hi",
        weights: str = "w1",
        engine: str = "",
        max_tokens: int = 50,
        grammar_language: str = "",
        **asked: Any,
    ) -> Run:
        """A run behind what the journal holds; what it writes goes there, by `take`."""
        job = replace(JOB, seq=len(self.events), request={**ASKED, **asked})
        prompt_ids = tokenizer.encode(prompt) if isinstance(prompt, str) else list(prompt)
        run = Run(
            job,
            prompts=[prompt_ids],
            tokenizer=tokenizer,
            max_tokens=max_tokens,
            resume_point=ResumePoint.from_journal(job, self.events) if self.events else None,
            grammar_language=grammar_language,
        )
        run.begin(
            {"model": "m", "tokenizer": tokenizer.digest, "weights": weights, **({"engine": engine} if engine else {})}
        )
        self.take(run)
        return run

    def make(self, run: Run, text: str, *, index: int = 0, finish: str | None = None) -> None:
        """Let an engine make these tokens for a run."""
        self.add(run, SequenceOutput(index, run.tokenizer.encode(text), None, finish), index=index)

    def add(self, run: Run, output: SequenceOutput, *, index: int = 0) -> None:
        """The same with all that an engine may say."""
        run.take(index, output)
        self.take(run)

    def take(self, run: Run) -> None:
        """Confirm what a run has written."""
        while append := run.unconfirmed():
            for event in append.events:
                self.events.append(Event(len(self.events) + 1, json.loads(event)))
            run.confirm(append)

    @property
    def text(self) -> str:
        return "".join(str(event.body.get("text", "")) for event in self.events)

    def logprobs(self, of: str = "lp") -> list[Any]:
        """The entries of all tokens of the answer, or, `prompt_lp`, of the prompt."""
        return [entry for event in self.events for entry in event.body.get(of, ())]

    def of(self, kind: str) -> dict[str, Any]:
        """The last event of a kind."""
        return dict([event.body for event in self.events if event.type.value == kind][-1])
