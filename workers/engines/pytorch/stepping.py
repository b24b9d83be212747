"""What comes behind the model in each step of transformers' continuous batching: drawing tokens, and telling of them.

The library prepares the batch and computes the scores, on CUDA by a graph if it can; the rest is `sampler.py`, which no
graph holds.
"""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

import torch
from transformers.generation.continuous_batching.utils import stream_context

from workers.engines.base import SequenceOutput
from workers.engines.pytorch.forms import FormMasks
from workers.engines.pytorch.row import Row, row_of
from workers.engines.pytorch.sampler import draw, logprobs


class Stepping:
    """Takes over from the library where it has the scores of a step. The manager's batch must be made, and not started.

    What was made goes into `outputs`, a list for each step; other ranks than the first tell nothing.
    """

    def __init__(self, manager: Any, outputs: SimpleQueue[Any]) -> None:
        batch, ranks = manager.batch_processor, manager.distributed_helper
        self._io, self._runner = batch.inputs_and_outputs, batch.model_runner
        self._outputs = outputs if ranks.is_tp_driver else None
        self._block = FormMasks(ranks.cpu_comm_group, first=ranks.is_tp_driver)
        self._scores = torch.empty(0)
        #: Where a graph leaves the scores: it has no other means.
        self._left: torch.Tensor | None = None
        if any(manager.continuous_batching_config.cuda_graph_booleans):
            rows = manager.continuous_batching_config.max_requests_per_batch
            vocabulary = manager.model.config.get_text_config().vocab_size
            self._left = torch.empty((rows, vocabulary), device=manager.model.device)
        runner = self._runner
        self._compute, self._forward, self._keeps = (
            runner.compute_batch,
            runner._get_forward_fn,
            runner.supports_logits_to_keep,
        )
        runner.compute_batch, runner._sample = self.compute, self._keep
        runner._get_forward_fn, runner.supports_logits_to_keep = self._forward_fn, self._keeps_some
        manager.logit_processor.supported_keys = {"row": Row}

    def compute(self, model: Any, batch_data: dict[str, Any]) -> None:
        """One step: the model, then the draw."""
        self._compute(self._listening(model) if self._is_wanting() else model, batch_data)
        with stream_context(self._io.compute_stream):
            self._draw()

    def _keep(self, scores: torch.Tensor, output_ids: torch.Tensor) -> None:
        """Instead of the library's own draw: the scores of shape (1, B, V), in 32 bits."""
        if self._left is None:
            self._scores = scores[0]
        else:
            self._scores = self._left[: scores.shape[1]]
            self._scores.copy_(scores[0])

    def _draw(self) -> None:
        requests = [request for request in self._io.requests_in_batch if request.has_new_token]
        rows = [row for request in requests if (row := row_of(request.state))]
        if len(rows) < len(requests) or not rows:  # the manager warms itself up, or only prompts were computed
            return
        scores = (self._scores if self._left is None else self._left)[: len(rows)]
        drawn = draw(scores, rows, self._block)
        self._io.output_ids[0, : len(rows)].copy_(drawn)
        ids = drawn.tolist()
        outputs = [row.add(token_id) for row, token_id in zip(rows, ids, strict=True)]
        if self._outputs is not None:
            self._outputs.put(_told(scores, rows, ids, outputs))

    def _is_wanting(self) -> bool:
        """Whether the step has a prompt of which something is to be told."""
        rows = (row_of(request.state) for request in self._io.requests_in_batch)
        return any(row.wants_prompt for row in rows if row)

    def _forward_fn(self, use_block_table: bool) -> tuple[Callable[..., Any], bool]:
        if self._is_wanting():
            return self._runner._forward_process_and_sample, False
        found: tuple[Callable[..., Any], bool] = self._forward(use_block_table=use_block_table)
        return found

    def _keeps_some(self, model: Any) -> bool:
        """Whether the model is to give the scores of those rows only that make a token."""
        return not self._is_wanting() and bool(self._keeps(model))

    def _listening(self, model: Any) -> Callable[..., Any]:
        """The model; who wants the scores behind the tokens of its prompt is told them."""

        def call(**inputs: Any) -> Any:
            scores, at = model(**inputs).logits, 0
            for request in self._io.requests_in_batch:
                row, length = row_of(request.state), request.query_length
                if row and row.wants_prompt:
                    first = request.state.position_offset - length + 1
                    ids = row.prompt[first : first + length]
                    row.note_prompt(logprobs(scores[0, at : at + len(ids)], ids, row.sampling.top_logprobs), first)
                at += length
            return SimpleNamespace(logits=scores)

        return call


def _told(scores: torch.Tensor, rows: list[Row], ids: list[int], outputs: list[SequenceOutput]) -> list[SequenceOutput]:
    """The outputs, with the log probabilities that were asked for, by the model's own scores."""
    wanting = [at for at, row in enumerate(rows) if row.sampling.logprobs and outputs[at].token_ids]
    if wanting:
        most = max(rows[at].sampling.top_logprobs for at in wanting)
        for at, found in zip(wanting, logprobs(scores[wanting], [ids[at] for at in wanting], most), strict=True):
            count = rows[at].sampling.top_logprobs
            likely = [found.likely[:count]] if count else None
            outputs[at] = outputs[at]._replace(logprobs=[found.logprob or 0.0], likely=likely)
    return [
        output if (prompt := row.of_prompt()) is None else output._replace(prompt=prompt)
        for row, output in zip(rows, outputs, strict=True)
    ]
