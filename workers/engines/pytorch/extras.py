"""What transformers' continuous batch can't do for one sequence by itself: penalties, biases, `min_p`, seeds, and log
probabilities, also of other likely tokens and of the prompt. Not for a model that several processes share.

The manager carries an `Extras` with each sequence that has any; a step without one is as fast as without this file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from transformers.generation.continuous_batching.cb_logits_processors import ContinuousBatchingLogitsProcessor

from workers.engines.base import Likely, Sampling, SequenceOutput, TokenLogprob

#: Positions of a prompt whose log probabilities are computed at once: each takes the vocabulary in 32 bits.
_ROWS = 64
#: What makes a sequence one that needs this.
NEEDS = frozenset(
    {"seed", "presence_penalty", "frequency_penalty", "repetition_penalty", "logit_bias", "min_p"}
    | {"logprobs", "top_logprobs", "prompt_logprobs"}
)


class Extras:
    """Of one sequence: what it asks for, and what was found for each token that it has made."""

    def __init__(self, sampling: Sampling, prompt_ids: Sequence[int], *, generated: int) -> None:
        """The last `generated` ids of the prompt are the answer so far."""
        self.sampling = sampling
        self.prompt = list(prompt_ids[: len(prompt_ids) - generated])
        #: One for each token of the answer.
        self.made: list[TokenLogprob] = []
        self._of_prompt: dict[int, TokenLogprob] = {}
        self._bias_ids = [int(token_id) for token_id in sampling.logit_bias]
        self._bias = list(sampling.logit_bias.values())
        self._random = None
        if sampling.seed is not None and not sampling.greedy:
            self._random = torch.Generator().manual_seed(sampling.seed)

    def __deepcopy__(self, memo: dict[int, Any]) -> Extras:
        """The manager copies sequences that it has moved out of the cache: it is still the same answer."""
        return self

    def change(self, scores: torch.Tensor, history: Sequence[int]) -> None:
        """Apply biases and penalties to the scores of the next token, shape (V,), in place."""
        wanted = self.sampling
        if self._bias_ids:
            scores[self._bias_ids] += torch.tensor(self._bias, device=scores.device)
        if wanted.repetition_penalty != 1 and history:
            seen = torch.tensor(sorted(set(history)), device=scores.device)
            found = scores[seen]
            scores[seen] = torch.where(found < 0, found * wanted.repetition_penalty, found / wanted.repetition_penalty)
        answer = history[len(self.prompt) :]
        if answer and (wanted.presence_penalty or wanted.frequency_penalty):
            made = Counter(answer)
            counts = torch.tensor(list(made.values()), dtype=scores.dtype, device=scores.device)
            scores[list(made)] -= wanted.presence_penalty + wanted.frequency_penalty * counts

    def draw(self, scores: torch.Tensor) -> None:
        """Leave what `min_p` does, and with a seed only the token that is drawn; shape (V,), in place."""
        if self.sampling.min_p and not self.sampling.greedy:
            chances = scores.softmax(-1)
            scores[chances < self.sampling.min_p * chances.max()] = -torch.inf
        if self._random is not None:
            # The first to ring of exponential clocks: a draw from the distribution.
            clocks = torch.empty(scores.shape).exponential_(generator=self._random).to(scores.device)
            drawn = int((scores.softmax(-1) / clocks).argmax())
            scores[:] = -torch.inf
            scores[drawn] = 0.0

    def note(self, logits: torch.Tensor, token_id: int) -> None:
        """It has made a token, from the model's own scores of shape (V,)."""
        self.made += _logprobs(logits[None], [token_id], self.sampling.top_logprobs)

    @property
    def wants_prompt(self) -> bool:
        """Whether the log probabilities of its prompt are asked for, and not all known."""
        return self.sampling.prompt_logprobs and len(self._of_prompt) < len(self.prompt) - 1

    def note_prompt(self, logits: torch.Tensor, first: int) -> None:
        """The model's scores behind the tokens from position `first` on, shape (T, V)."""
        behind = self.prompt[first + 1 : first + 1 + len(logits)]
        for at in range(0, len(behind), _ROWS):
            ids = behind[at : at + _ROWS]
            found = _logprobs(logits[at : at + len(ids)], ids, self.sampling.top_logprobs)
            self._of_prompt |= {first + 1 + at + i: one for i, one in enumerate(found)}

    def output(self, sequence_id: int, tokens: list[int], begun: int) -> SequenceOutput:
        """The tokens of its answer from number `begun` on, with what was found for them."""
        output = SequenceOutput(sequence_id, tokens)
        if self.sampling.prompt_logprobs and not begun:
            known = (self._of_prompt[at] for at in range(1, len(self.prompt)))
            output = output._replace(prompt=[TokenLogprob(None, ()), *known])
        if self.sampling.logprobs and tokens:
            made = self.made[begun : begun + len(tokens)]
            output = output._replace(logprobs=[one.logprob or 0.0 for one in made])
            if self.sampling.top_logprobs:
                output = output._replace(likely=[one.likely for one in made])
        return output


def _logprobs(logits: torch.Tensor, ids: Sequence[int], most: int) -> list[TokenLogprob]:
    """Of these tokens, by scores of shape (T, V), each with the `most` likely ones."""
    found = logits.float().log_softmax(-1)
    chosen = found.gather(1, torch.tensor(ids, device=found.device)[:, None])[:, 0].tolist()
    if not most:
        return [TokenLogprob(logprob, ()) for logprob in chosen]
    best = found.topk(min(most, found.shape[-1]))
    rows = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    likely = [[Likely(*pair) for pair in zip(*row, strict=True)] for row in rows]
    return [TokenLogprob(*one) for one in zip(chosen, likely, strict=True)]


def extras_of(state: Any) -> Extras | None:
    """Those of a sequence of the manager."""
    found = state.logit_processor_kwargs.get("extras")
    return found if isinstance(found, Extras) else None


def wants_whole_prompt(state: Any) -> bool:
    """Whether no part of its prompt may come from the cache, as something is to be computed of each token."""
    extras = extras_of(state)
    return extras is not None and extras.wants_prompt


class _Rows(ContinuousBatchingLogitsProcessor):
    """Changes the scores of single sequences. The library knows which they are when it prepares a step."""

    supported_kwargs: dict[str, type] = {"extras": Extras}
    ignored_kwargs: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.rows: list[tuple[int, Extras, Any]] = []

    def fill_defaults(self, int32_tensor: torch.Tensor) -> None:
        """Nothing is kept there."""
        int32_tensor.zero_()

    def prepare_tensor_args(self, requests_with_new_token: list[Any]) -> torch.Tensor:
        """Note which rows of the scores are changed."""
        states = [request.state for request in requests_with_new_token]
        self.rows = [(row, extras, state) for row, state in enumerate(states) if (extras := extras_of(state))]
        return torch.zeros(len(states), dtype=torch.int32)


class Before(_Rows):
    """The first of all processors: it sees the model's own scores."""

    def __init__(self) -> None:
        super().__init__()
        self.logits: torch.Tensor | None = None

    def __call__(self, scores: torch.Tensor, tensor_arg: torch.Tensor) -> torch.Tensor:
        """Biases and penalties."""
        self.logits = scores if self.rows else None
        if not self.rows:
            return scores
        scores = scores.clone()
        for row, extras, state in self.rows:
            extras.change(scores[row], [*state.initial_tokens, *state.generated_tokens])
        return scores


class After(_Rows):
    """The last."""

    def __call__(self, scores: torch.Tensor, tensor_arg: torch.Tensor) -> torch.Tensor:
        """`min_p`, and seeds."""
        for row, extras, _ in self.rows:
            extras.draw(scores[row])
        return scores


def add_processors(manager: Any) -> None:
    """Around those of the library, before its batch is made."""
    processors = manager.logit_processor
    processors.logits_processor.insert(0, Before())
    processors.logits_processor.append(After())
    processors.tensors_required += 2
    processors._retrieve_processors_kwargs()


def attach(manager: Any) -> None:
    """Listen to what the manager computes; it must have made a step, and be idle."""
    batch = manager.batch_processor
    io, runner = batch.inputs_and_outputs, batch.model_runner
    before = next(one for one in batch.logit_processor.logits_processor if isinstance(one, Before))
    _eager_where_needed(runner, io, before)
    _tell_tokens(io, before)


def _eager_where_needed(runner: Any, io: Any, before: Before) -> None:
    """A step with extras is no graph; and one with a prompt that wants them gives the scores behind all tokens."""
    forward, keeps, compute = runner._get_forward_fn, runner.supports_logits_to_keep, runner.compute_batch

    def wanting() -> bool:
        return any(wants_whole_prompt(request.state) for request in io.requests_in_batch)

    def get_forward_fn(use_block_table: bool) -> tuple[Callable[..., Any], bool]:
        if before.rows or wanting():
            return runner._forward_process_and_sample, False
        found: tuple[Callable[..., Any], bool] = forward(use_block_table=use_block_table)
        return found

    def supports_logits_to_keep(model: Any) -> bool:
        return not wanting() and bool(keeps(model))

    def compute_batch(model: Any, batch_data: dict[str, Any]) -> None:
        compute(_listening(model, io) if wanting() else model, batch_data)

    runner._get_forward_fn, runner.compute_batch = get_forward_fn, compute_batch
    runner.supports_logits_to_keep = supports_logits_to_keep


def _listening(model: Any, io: Any) -> Callable[..., Any]:
    """The model; who wants the scores behind the tokens of its prompt is told them."""

    def call(**inputs: Any) -> Any:
        logits, at = model(**inputs).logits, 0
        for request in io.requests_in_batch:
            extras, length = extras_of(request.state), request.query_length
            if extras and extras.wants_prompt:
                extras.note_prompt(logits[0, at : at + length], request.state.position_offset - length)
            at += length
        return SimpleNamespace(logits=logits)

    return call


def _tell_tokens(io: Any, before: Before) -> None:
    """Tell extras which tokens were drawn, before anybody reads them."""
    update = io.prepare_batch_update

    def prepare_batch_update() -> Any:
        requests, tokens, logprobs = update()
        logits, before.logits = before.logits, None
        if logits is not None:
            for row, extras, _ in before.rows:
                if extras.sampling.logprobs:
                    extras.note(logits[row], tokens[row])
        return requests, tokens, logprobs

    io.prepare_batch_update = prepare_batch_update
