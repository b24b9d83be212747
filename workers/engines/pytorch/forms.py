"""Grammars in transformers' continuous batch: masks of the logits, made between two steps by threads of their own.

A sequence whose mask is late sits a step out (`workers/engines/pytorch/paced_scheduler.py`), so that a costly grammar
slows nobody else. Of several ranks only the first has the grammar, and sends its masks to the others.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

import numpy
import torch
from numpy.typing import NDArray
from torch import distributed
from transformers.generation.continuous_batching.cb_logits_processors import ContinuousBatchingLogitsProcessor

from workers.engines.base import EngineRequestError
from workers.engines.grammars.token_masks import Matcher

log = logging.getLogger("headrace.engine")

#: How long a step waits for masks that are late.
LATE_S = 0.005
_THREADS = ThreadPoolExecutor(2, "masks")
Mask = NDArray[numpy.bool_]


class Form:
    """What one sequence may go on with. The manager carries it with the sequence, as it is."""

    def __init__(self, matcher: Matcher, eos_ids: Sequence[int]) -> None:
        """Raises: EngineRequestError if nothing may come at all."""
        self._matcher: Matcher | None = matcher
        self._eos_ids = list(eos_ids)
        self._pushed = 0
        #: Of the token behind those that were pushed.
        self._mask: Future[Mask] = Future()
        self._mask.set_result(matcher.allowed(eos_ids))
        #: Why it can't go on.
        self.error = ""

    def __deepcopy__(self, memo: dict[int, Any]) -> Form:
        """The manager copies sequences that it has moved out of the cache: it is still the same answer."""
        return self

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[()]]:
        """For another rank: that there is one."""
        return _elsewhere, ()

    def prepare(self, made: Sequence[int]) -> Future[Mask]:
        """The mask of the token that comes behind those that were made, at once or soon."""
        if len(made) > self._pushed:
            new, self._pushed = list(made[self._pushed :]), len(made)
            self._mask = _THREADS.submit(self._follow, new)
        return self._mask

    def _follow(self, token_ids: list[int]) -> Mask:
        assert self._matcher is not None
        if self._eos_ids and token_ids[-1] in self._eos_ids:
            token_ids = token_ids[:-1]  # it is over, and the manager knows
        self._matcher.push(token_ids)
        return self._matcher.allowed(self._eos_ids)

    def mask(self, made: Sequence[int]) -> Mask | None:
        """The same, waited for; None if there is an error, which is noted."""
        if self.error:
            return None
        try:
            return self.prepare(made).result()
        except EngineRequestError as error:
            self.error = str(error)
        except BaseException as error:  # whatever the library raises: the edge of one sequence
            log.exception("a grammar can't be followed")
            self.error = f"The grammar can't be followed: {error!r:.300}"
        return None


def _elsewhere() -> Form:
    form = Form.__new__(Form)
    form._matcher, form.error = None, ""
    return form


def form_of(state: Any) -> Form | None:
    """That of a sequence of the manager."""
    found = state.logit_processor_kwargs.get("form")
    return found if isinstance(found, Form) else None


def made_by(state: Any) -> list[int]:
    """The tokens of its answer; a sequence that had to begin again has the first behind its prompt."""
    prompt = state._true_initial_tokens or len(state.initial_tokens)
    return [*state.initial_tokens[prompt:], *state.generated_tokens]


def in_time(states: Sequence[Any], *, alone: bool) -> list[Any]:
    """Those of sequences that are to make a token whose masks are there, all of them in most steps.

    If they are `alone` in the step, it waits for the first.
    """
    formed = {id(state): form.prepare(made_by(state)) for state in states if (form := form_of(state))}
    if formed:
        wait(formed.values(), timeout=LATE_S)
        if alone and len(formed) == len(states):
            wait(formed.values(), return_when=FIRST_COMPLETED)
    return [state for state in states if id(state) not in formed or formed[id(state)].done()]


class FormMasks(ContinuousBatchingLogitsProcessor):
    """Blocks tokens that no grammar allows, before all other processors. Row 0 of its table blocks none."""

    supported_kwargs: dict[str, type] = {"form": Form}
    ignored_kwargs: tuple[str, ...] = ()

    def __init__(self, *, rows: int, vocabulary: int, device: torch.device, group: Any = None, first: bool = True):
        """`group` has the ranks that share the model, of which this is the `first` or not."""
        self._group, self._first = group, first
        self._vocabulary = vocabulary
        # At one place for ever: a CUDA graph reads it there.
        self._blocked = torch.zeros((rows + 1, vocabulary), dtype=torch.bool, device=device)
        self._needed = False

    def fill_defaults(self, int32_tensor: torch.Tensor) -> None:
        """Nothing is blocked."""
        int32_tensor.zero_()

    def prepare_tensor_args(self, requests_with_new_token: list[Any]) -> torch.Tensor:
        """The row of the table for each sequence."""
        states = [request.state for request in requests_with_new_token]
        formed = [at for at, state in enumerate(states) if form_of(state)]
        rows = torch.zeros(len(states), dtype=torch.int32)
        self._needed = bool(formed)
        if formed:
            blocked = torch.from_numpy(self._masks([states[at] for at in formed]))
            self._blocked[1 : len(formed) + 1] = blocked.to(self._blocked.device)
            rows[formed] = torch.arange(1, len(formed) + 1, dtype=torch.int32)
        return rows

    def __call__(self, scores: torch.Tensor, tensor_arg: torch.Tensor) -> torch.Tensor:
        """Where nothing is recorded to be played again, nothing is done for steps without grammars."""
        if scores.device.type == "cpu" and not self._needed:
            return scores
        blocked = self._blocked[tensor_arg[: scores.size(0)].long()]
        return scores.masked_fill(blocked, float("-inf"))

    def _masks(self, states: Sequence[Any]) -> NDArray[numpy.bool_]:
        """What is blocked for each of these, the same in all ranks."""
        blocked = numpy.zeros((len(states), self._vocabulary), numpy.bool_)
        for row, state in zip(blocked, states, strict=True):
            form = form_of(state)
            mask = form.mask(made_by(state)) if form and self._first else None
            if mask is not None:
                row[:] = True
                row[: len(mask) - 1] = ~mask[:-1]
        if self._group is None:
            return blocked
        packed = torch.from_numpy(numpy.packbits(blocked))
        distributed.broadcast(packed, src=0, group=self._group)
        bits = numpy.unpackbits(packed.numpy(), count=blocked.size)
        return bits.reshape(blocked.shape).astype(numpy.bool_)
