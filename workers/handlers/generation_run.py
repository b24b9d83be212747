"""One job as a model worker runs it: engine output in, journal events out. Knows no Redis and no engine.

A resume replays the journal first: ids rebuild the detokenizer, published text is subtracted, and choices that EOS,
stop strings or max_tokens have ended are finished without the engine. Text of another model counts as the beginning of
the answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.grammars.grammar import Grammar
from gateway.inference.estimates import UNLIMITED_ANSWER
from gateway.jobs.events import EventType
from gateway.jobs.journal import as_usage, echoed_by_worker, fold, prompts_of
from gateway.jobs.record import Job, JobState
from gateway.jobs.resume_point import ResumePoint
from gateway.models.entry import Model
from gateway.store.codec import dumps
from workers.answers.of_model import ModelAnswers
from workers.answers.pieces import REASONING, Pieces
from workers.answers.plan import Plan
from workers.answers.reader import Reader
from workers.engines.base import EngineInfo, Sampling, SequenceOutput, SequenceRequest
from workers.handlers.base import ENGINE_ERRORS, EngineRun
from workers.handlers.exact_resume import require_exact
from workers.handlers.keeping_form import WholeCharacters, still_to_come
from workers.handlers.logprobs import answer_entries, prompt_entries
from workers.tokenizers.detokenizer import Offsets
from workers.tokenizers.load import Tokenizer

#: Log probabilities of so many tokens of a prompt go into one event.
PROMPT_ENTRIES = 256


def digest_of(prompts: Sequence[Sequence[int]]) -> str:
    """A short digest of prompts."""
    return hashlib.sha256(dumps(prompts).encode()).hexdigest()[:16]


@dataclass
class Choice:
    """One answer: its prompt, its state so far, and the reader that turns ids into certain text."""

    index: int
    prompt_ids: list[int]
    reader: Reader
    #: With a grammar: keeps back the ids of unfinished characters.
    whole: WholeCharacters | None = None
    #: What the answer must be from here on, in the engine's language.
    grammar: str = ""
    #: The part of the answer that another model wrote, in our tokens.
    before_ids: list[int] = field(default_factory=list)
    num_tokens: int = 0
    finish_reason: str | None = None
    #: What is certain but not yet in the journal (only after a resume).
    unsent: Pieces = field(default_factory=Pieces)
    #: All ids of the answer so far, in our tokens: the engine gets them after the prompt.
    ids: list[int] = field(default_factory=list)
    #: Offsets of tokens in the text, for log probabilities.
    offsets: Offsets = field(default_factory=Offsets)
    #: The prompt's text that is not in the journal and must be, see `echoed_by_worker`.
    echo: str = ""
    #: Tokens of the prompt whose log probabilities the journal has.
    prompt_done: int = 0
    #: It has ended without the engine, or the replay showed that it has.
    finished_on_resume: bool = False


class Run(EngineRun):
    """A claimed text job. Only the emitter thread changes it after `requests` was called."""

    def __init__(
        self,
        job: Job,
        *,
        prompts: Sequence[list[int]],
        tokenizer: Tokenizer,
        max_tokens: int,
        resume_point: ResumePoint | None = None,
        answers: ModelAnswers | None = None,
        plan: Plan | None = None,
        grammar_language: str = "",
        adapter: str = "",
    ) -> None:
        super().__init__(job)
        self._adapter = adapter
        self.tokenizer = tokenizer
        self._answers = answers = answers or ModelAnswers(tokenizer)
        self._plan = plan = plan or answers.plan(job.request, prompts[0])
        self._grammar_language = grammar_language
        self.prompt_digest = digest_of(prompts)
        resume_point = resume_point and resume_point.read_by(tokenizer=tokenizer.digest, prompt=self.prompt_digest)
        self.resume_point = resume_point
        self._used = resume_point.used if resume_point else {}
        self._weights_changed = False
        self.max_tokens = max_tokens
        self._answers_each = n = int(job.request.get("n") or 1)
        longest = min(max_tokens, UNLIMITED_ANSWER) if job.request.get("max_tokens") is None else max_tokens
        self.reserved_tokens = sum(map(len, prompts)) + n * len(prompts) * longest
        self.prompt_tokens = sum(map(len, prompts))
        #: Those that the engine had in its cache, by the index of the first choice of each prompt.
        self._cached: dict[int, int] = {}
        self.choices = [
            Choice(i, prompt, answers.reader(job, i, plan), WholeCharacters(tokenizer) if plan.grammar else None)
            for i, prompt in enumerate(prompt for prompt in prompts for _ in range(n))
        ]
        if echoed_by_worker(job.request):
            given = prompts_of(job.request)
            for choice in self.choices:
                text = given[choice.index // n]
                choice.echo = text if isinstance(text, str) else tokenizer.decode(choice.prompt_ids)
                choice.offsets = Offsets(len(choice.echo))
        self._eos = set(tokenizer.eos_ids)
        self._want_logprobs = bool(job.request.get("logprobs"))
        self._want_prompt = self._want_logprobs and bool(job.request.get("echo"))
        if not max_tokens and not self._want_prompt:
            for choice in self.choices:
                choice.finish_reason, choice.finished_on_resume = "length", True
        if resume_point:
            self._replay(resume_point)
        if plan.grammar:
            for choice in self.choices:
                self._keep_to_form(choice, plan.grammar, grammar_language)

    def usage(self) -> dict[str, Any]:
        """Tokens of the prompts and of all choices, with those of earlier claims and other models."""
        prompt = self.prompt_tokens + self._used.get("prompt_tokens", 0)
        completion = sum(choice.num_tokens - len(choice.before_ids) for choice in self.choices)
        completion += self._used.get("completion_tokens", 0)
        return as_usage(prompt, completion, self._details())

    def _details(self) -> dict[str, int]:
        """Tokens of reasoning, and those of prompts that were in the engine's cache, if there are any."""
        reasoning = sum(choice.reader.reasoning_tokens for choice in self.choices)
        cached = sum(self._cached.values())
        return {name: n for name, n in (("cached_tokens", cached), ("reasoning_tokens", reasoning)) if n}

    def require_exact(self, model: Model, engine: EngineInfo) -> None:
        """Raises: InvalidRequest, GenerationFailed if it must go on exactly, and would not on this engine."""
        require_exact(self.job.request, self.resume_point, model, engine)

    def begin(self, info: Mapping[str, Any]) -> None:
        """Write the first event of this claim, then what the replay found missing in the journal."""
        mode = self.resume_point.announcement() if self.resume_point else {}
        self._weights_changed = bool(self.resume_point and self.resume_point.weights - {info.get("weights")})
        prompt = {"prompt_tokens": self.usage()["prompt_tokens"], "prompt": self.prompt_digest}
        super().begin({**prompt, **info, **mode, **self._caveat()})
        for choice in self.choices:
            if choice.echo:
                self.event(EventType.DELTA, {"index": choice.index, "echo": choice.echo})
            self._publish(choice, choice.unsent)
            if choice.finish_reason and choice.finished_on_resume:
                self.finish_choice(choice.index, choice.finish_reason)
        self._end_if_all_finished()

    def done(self) -> None:
        """End it with a full answer, which tells if other weights made a part of it."""
        self._end(JobState.DONE, EventType.DONE, {"usage": self.usage(), **self._details(), **self._caveat()})

    def requests(self, first_sequence_id: int) -> list[SequenceRequest]:
        """The requests for all unfinished choices; sequence ids count up from the given one."""
        wanted = self.job.request
        seed = wanted.get("seed")
        return [
            SequenceRequest(
                sequence_id=first_sequence_id + choice.index,
                prompt_ids=choice.prompt_ids + choice.ids,
                sampling=Sampling(
                    max_tokens=self.max_tokens - choice.num_tokens,
                    temperature=float(wanted["temperature"]),
                    top_p=float(wanted["top_p"]),
                    top_k=int(wanted.get("top_k") or 0),
                    seed=None if seed is None else (int(seed) + choice.index) % 2**32,
                    presence_penalty=float(wanted.get("presence_penalty") or 0),
                    frequency_penalty=float(wanted.get("frequency_penalty") or 0),
                    repetition_penalty=float(wanted.get("repetition_penalty") or 1),
                    logit_bias=wanted.get("logit_bias") or {},
                    min_p=float(wanted.get("min_p") or 0),
                    logprobs=self._want_logprobs,
                    top_logprobs=int(wanted.get("top_logprobs") or 0) if self._want_logprobs else 0,
                    prompt_logprobs=self._want_prompt and choice.prompt_done < len(choice.prompt_ids),
                    grammar=choice.grammar,
                ),
                eos_ids=list(self._eos),
                key=f"{self.job.id}/{choice.index}",
                generated=choice.num_tokens,
                yields=self.yields,
                adapter=self._adapter,
                log_ids=self.job.log_ids,
            )
            for choice in self.choices
            if choice.finish_reason is None
        ]

    def take(self, index: int, output: SequenceOutput) -> bool:
        """Add an output of one choice. Returns whether its sequence must be stopped (a stop string matched)."""
        choice = self.choices[index]
        if choice.finish_reason is not None or self.state is not None:
            return False
        if output.finish_reason in ENGINE_ERRORS:
            self.fail(ENGINE_ERRORS[output.finish_reason], output.error or "the engine refused the request")
            return False
        if output.cached and index % self._answers_each == 0 and index not in self._cached:
            self._cached[index] = min(output.cached, len(choice.prompt_ids))
        if output.prompt and self._want_prompt:
            self._write_prompt(choice, output)
        if choice.whole:
            output = choice.whole.push(output)
        pieces, stopped, kept = choice.reader.push(output.token_ids, final=output.finish_reason is not None)
        ids = output.token_ids[:kept]
        choice.ids += ids
        choice.num_tokens += kept
        self.new_tokens += kept
        choice.finish_reason = _named("stop" if stopped else output.finish_reason, choice.reader)
        more = {}
        if output.logprobs and self._want_logprobs:
            more["lp"] = answer_entries(self.tokenizer, choice.offsets, ids, output)
        self._publish(choice, pieces, ids=ids, **more)
        if choice.finish_reason:
            self.finish_choice(index, choice.finish_reason)
            self._end_if_all_finished()
        return stopped and output.finish_reason is None

    def _publish(self, choice: Choice, pieces: Pieces, *, ids: Sequence[int] = (), **more: Sequence[Any]) -> None:
        extra = [{REASONING: pieces.reasoning}] if pieces.reasoning else ()
        if ids or pieces.text or extra or pieces.calls:
            self.extend(choice.index, ids=ids, text=pieces.text, tool_calls=pieces.calls, extra=extra, **more)

    def _write_prompt(self, choice: Choice, output: SequenceOutput) -> None:
        """The prompt with its log probabilities, but for what an earlier claim has written."""
        entries = prompt_entries(self.tokenizer, Offsets(), choice.prompt_ids, output.prompt or ())
        for at in range(choice.prompt_done, len(entries), PROMPT_ENTRIES):
            self.event(EventType.DELTA, {"index": choice.index, "prompt_lp": entries[at : at + PROMPT_ENTRIES]})
        choice.prompt_done = len(entries)

    def _end_if_all_finished(self) -> None:
        if all(choice.finish_reason for choice in self.choices):
            self.done()

    def _caveat(self) -> dict[str, bool]:
        return {"weights_changed": True} if self._weights_changed else {}

    def _replay(self, resume_point: ResumePoint) -> None:
        own = fold(resume_point.own, num_choices=len(self.choices))
        for choice, before, old in zip(self.choices, resume_point.before, own, strict=True):
            if before.text or before.extra or before.tool_calls:
                choice.reader = self._answers.reader(self.job, choice.index, self._plan, before)
                choice.before_ids = self._answers.begun(before, choice.prompt_ids)
            choice.ids = choice.before_ids + old.token_ids
            choice.num_tokens = len(choice.ids)
            choice.offsets = Offsets(len(choice.echo) + len(before.text))
            choice.echo = "" if before.echo or old.echo else choice.echo
            choice.prompt_done = len(before.prompt_logprobs) + len(old.prompt_logprobs)
            for token_id in old.token_ids if self._want_logprobs else ():
                choice.offsets.push(self.tokenizer.token_bytes(token_id))
            choice.finish_reason = before.finish_reason or old.finish_reason
            if choice.finish_reason:
                choice.reader.push(old.token_ids)
                continue
            ended_by_eos = bool(self._eos & set(old.token_ids[-1:]))
            unread = self._want_prompt and choice.prompt_done < len(choice.prompt_ids)
            over = (choice.num_tokens >= self.max_tokens and not unread) or ended_by_eos
            pieces, stopped, _ = choice.reader.push(old.token_ids, final=over)
            choice.unsent = pieces.beyond(old.text, old.extra, old.tool_calls)
            if stopped or over:
                choice.finish_reason = _named("stop" if stopped or ended_by_eos else "length", choice.reader)
                choice.finished_on_resume = True

    def _keep_to_form(self, choice: Choice, grammar: Grammar, language: str) -> None:
        """The rest of a choice must have its form; if nothing may follow, it has ended. Raises: GenerationFailed."""
        if choice.finish_reason:
            return
        choice.grammar = still_to_come(grammar, self.tokenizer.decode(choice.ids), language)
        if not choice.grammar:
            pieces, _, _ = choice.reader.push([], final=True)
            choice.unsent.add(pieces)
            choice.finish_reason, choice.finished_on_resume = _named("stop", choice.reader), True


def _named(finish_reason: str | None, reader: Reader) -> str | None:
    """Why an answer ended, as clients are told."""
    return "tool_calls" if finish_reason == "stop" and reader.has_calls else finish_reason
