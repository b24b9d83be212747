"""Embedding jobs on a replica: inputs become token ids, and a run collects vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy

from gateway.errors import ContextTooLong
from gateway.jobs.events import Event, EventType
from gateway.jobs.record import Job
from gateway.jobs.resume_point import ResumePoint
from gateway.models.catalog import Catalog, Model
from workers.engines.base import EngineConfig, SequenceOutput, SequenceRequest
from workers.handlers.base import ENGINE_ERRORS, EngineRun
from workers.tokenizers.encoder import EncoderTokenizer
from workers.tokenizers.load import reading_tokenizer


class Embedding:
    """Makes vectors with one model, on an engine with this context length."""

    def __init__(self, tokenizer: EncoderTokenizer, model: Model, catalog: Catalog, *, context_length: int) -> None:
        self._tokenizer = tokenizer
        self._model = model
        self._catalog = catalog
        self._context_length = context_length
        self.digest = tokenizer.digest

    def prepare(self, job: Job, resume_point: ResumePoint | None) -> EmbeddingRun:
        """Raises: ContextTooLong, naming the input."""
        allowed = min(self._catalog.latest(self._model).context_length or self._context_length, self._context_length)
        limit = min(allowed, self._tokenizer.max_tokens or allowed)
        inputs = token_ids(job.request["input"], self._tokenizer)
        room = limit - self._tokenizer.num_special
        if job.request.get("truncate"):
            inputs = [ids[:room] for ids in inputs]
        for index, ids in enumerate(inputs):
            if len(ids) > room:
                raise ContextTooLong(
                    f"input[{index}] has {len(ids) + self._tokenizer.num_special} tokens, but {self._model.id} takes "
                    f'{limit} at most. Shorten it, or send "truncate": true to have it cut.'
                )
        wrapped = [self._tokenizer.wrap(ids) for ids in inputs]
        return EmbeddingRun(job, inputs=wrapped, journal=resume_point.own if resume_point else ())

    def check(self) -> list[str]:
        """Nothing: the tokenizer is read already."""
        return []

    def probe(self) -> SequenceRequest:
        """One short text."""
        return SequenceRequest(0, self._tokenizer.wrap(self._tokenizer.encode(["probe"])[0]))


def load_embedding(config: EngineConfig, model: Model, catalog: Catalog) -> Embedding:
    """Read the tokenizer. Raises: DeploymentFailed."""
    folder = Path(config.model_path)
    with reading_tokenizer(folder):
        return Embedding(EncoderTokenizer(folder), model, catalog, context_length=config.context_length)


def token_ids(value: Any, tokenizer: EncoderTokenizer) -> list[list[int]]:
    """Token ids of each input, without special tokens. `value`: a text, texts, token ids, or lists of token ids."""
    inputs = value if isinstance(value, list) and not isinstance(value[0], int) else [value]
    if isinstance(inputs[0], str):
        return tokenizer.encode(inputs)
    return [tokenizer.unwrap(ids) for ids in inputs]


class EmbeddingRun(EngineRun):
    """A claimed embedding job. Vectors that an earlier claim made with the same weights are kept."""

    def __init__(self, job: Job, *, inputs: Sequence[Sequence[int]], journal: Sequence[Event] = ()) -> None:
        super().__init__(job)
        self._inputs = inputs
        self.reserved_tokens = sum(map(len, inputs))
        self._journal = journal
        self._missing = set(range(len(inputs)))
        self._dimensions: int | None = job.request.get("dimensions")

    def usage(self) -> dict[str, int]:
        """Tokens of all inputs, with their special tokens."""
        tokens = sum(map(len, self._inputs))
        return {"prompt_tokens": tokens, "total_tokens": tokens}

    def begin(self, info: Mapping[str, Any]) -> None:
        """Write the first event of this claim, and find the missing vectors."""
        super().begin({"prompt_tokens": self.usage()["prompt_tokens"], **info})
        self._missing -= made_before(self._journal, weights=info["weights"])
        self._end_if_complete()

    def requests(self, first_sequence_id: int) -> list[SequenceRequest]:
        """One sequence for each vector that is missing, the shortest first."""
        order = sorted(self._missing, key=lambda index: len(self._inputs[index]))
        return [
            SequenceRequest(
                first_sequence_id + i,
                self._inputs[i],
                key=f"{self.job.id}/{i}",
                yields=self.yields,
                log_ids=self.job.log_ids,
            )
            for i in order
        ]

    def take(self, index: int, output: SequenceOutput) -> bool:
        """Add one vector. An error of one input fails the job."""
        if self.state is not None or output.finish_reason == "cancelled":
            return False
        if output.vector is None:
            reason = ENGINE_ERRORS.get(output.finish_reason or "", "generation_failed")
            self.fail(reason, f"input[{index}]: {output.error or 'the engine refused it.'}")
            return False
        self.new_tokens += len(self._inputs[index])
        self.add_vector(index, shortened(output.vector, self._dimensions))
        self._missing.discard(index)
        self._end_if_complete()
        return False

    def _end_if_complete(self) -> None:
        if not self._missing:
            self.done()


def made_before(journal: Sequence[Event], *, weights: str) -> set[int]:
    """The indexes of inputs whose vectors the journal has, made with these weights."""
    made: set[int] = set()
    of_weights = ""
    for event in journal:
        of_weights = event.body.get("weights", of_weights)
        if event.type is EventType.VECTORS and of_weights == weights:
            made.update(event.body["done"])
    return made


def shortened(vector: bytes, dimensions: int | None) -> bytes:
    """The first `dimensions` elements of a packed vector, normalized again; None = the whole vector as it is."""
    values = numpy.frombuffer(vector, "<f4")
    if dimensions is None or dimensions >= len(values):
        return vector
    values = values[:dimensions]
    return (values / max(float(numpy.linalg.norm(values)), 1e-12)).astype("<f4").tobytes()
