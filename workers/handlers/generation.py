"""Chat and completion jobs on a replica."""

from __future__ import annotations

from dataclasses import replace

from gateway.errors import GenerationFailed, InvalidRequest
from gateway.inference.parameters import sampling
from gateway.jobs.record import Job
from gateway.jobs.resume_point import ResumePoint
from gateway.models.catalog import Catalog, Model
from gateway.models.engines import spec_of
from workers.answers.of_model import ModelAnswers
from workers.engines.base import EngineConfig, Sampling, SequenceRequest
from workers.handlers.generation_run import Run
from workers.handlers.prompts import prompt_ids, token_limit
from workers.tokenizers.load import Tokenizer, load_tokenizer


class Generation:
    """Generates text with one model, on an engine with this context length."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        model: Model,
        catalog: Catalog,
        *,
        context_length: int,
        grammar_language: str = "",
    ) -> None:
        self._tokenizer = tokenizer
        self._model = model
        self._catalog = catalog
        self._context_length = context_length
        self._grammar_language = grammar_language
        self.digest = tokenizer.digest
        self._named: tuple[str, str] | None = None
        self._read_as = ModelAnswers(tokenizer)

    def prepare(self, job: Job, resume_point: ResumePoint | None) -> Run:
        """Raises: InvalidRequest if the chat template refuses the messages; TemplateFailed; ContextTooLong."""
        latest = self._catalog.get(job.adapter) if job.adapter else self._catalog.latest(self._model)
        adapter = _adapter_of(latest)
        model = replace(latest, context_length=min(latest.context_length or self._context_length, self._context_length))
        answers = self._answers(model)
        answers.require(job.request, model.id)
        prompts = prompt_ids(
            job.request,
            self._tokenizer,
            at_ms=job.created_at,
            most=model.context_length,
            describes=answers.describes,
        )
        plan = answers.plan(job.request, prompts[0])
        if plan.grammar and not self._grammar_language:
            raise InvalidRequest(f"The engine of {model.id} can't hold an answer to a form, or make it call a tool.")
        prompts = [prompt + answers.ids(plan.prefix) for prompt in prompts]
        max_tokens = token_limit(job.request, model, prompt_tokens=max(map(len, prompts)))
        job = replace(
            job, request={**job.request, **sampling(model, job.request)}
        )  # a fallback of a remote model may lack them
        return Run(
            job,
            prompts=prompts,
            tokenizer=self._tokenizer,
            max_tokens=max_tokens,
            resume_point=resume_point,
            answers=answers,
            plan=plan,
            grammar_language=self._grammar_language,
            adapter=adapter,
        )

    def _answers(self, model: Model) -> ModelAnswers:
        """How its answers are read, as the catalog has it now."""
        named = (model.tool_format, model.reasoning_format)
        if named != self._named:
            self._named = named
            self._read_as = ModelAnswers(self._tokenizer, tools=model.tool_format, reasoning=model.reasoning_format)
        return self._read_as

    def check(self) -> list[str]:
        """Try the chat templates. Raises: DeploymentFailed."""
        return self._tokenizer.check()

    def probe(self) -> SequenceRequest:
        """One token."""
        greedy = Sampling(max_tokens=1, temperature=0.0)
        return SequenceRequest(0, self._tokenizer.encode("probe"), greedy, list(self._tokenizer.eos_ids))


def _adapter_of(model: Model) -> str:
    """The folder of its adapter; empty: it is none. Raises: GenerationFailed."""
    if not model.base:
        return ""
    path = model.adapter_path()
    if path is None or not path.is_dir():
        raise GenerationFailed(f"The adapter of {model.id!r} is not on this machine: {model.adapter}.")
    return str(path)


def load_generation(config: EngineConfig, model: Model, catalog: Catalog) -> Generation:
    """Read the tokenizer."""
    tokenizer = load_tokenizer(config.model_path, config.engine)
    language = spec_of(config.engine).grammar_language
    return Generation(tokenizer, model, catalog, context_length=config.context_length, grammar_language=language)
