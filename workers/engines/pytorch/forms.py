"""Grammars in transformers' continuous batch: masks of the logits, made between two steps by threads of their own.

A sequence whose mask is late sits a step out (`workers/engines/pytorch/paced_scheduler.py`), so that a costly grammar
slows nobody else. Of several ranks only the first has the grammar, and sends its masks to the others.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import numpy
import torch
from numpy.typing import NDArray
from torch import distributed

from workers.engines.base import EngineRequestError
from workers.engines.grammars.token_masks import Matcher

log = logging.getLogger("headrace.engine")

_THREADS = ThreadPoolExecutor(2, "masks")
Mask = NDArray[numpy.bool_]


class Form:
    """What one sequence may go on with."""

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


class Formed(Protocol):
    """A sequence that may have a form."""

    form: Form | None

    @property
    def made(self) -> list[int]:
        """The tokens of its answer since it was added."""


def _elsewhere() -> Form:
    form = Form.__new__(Form)
    form._matcher, form.error = None, ""
    return form


class FormMasks:
    """Blocks tokens that no grammar allows. Of the ranks that share a model (`group`) the `first` has the grammars."""

    def __init__(self, group: Any = None, *, first: bool = True) -> None:
        self._group, self._first = group, first

    def __call__(self, scores: torch.Tensor, rows: Sequence[Formed]) -> None:
        """Change the scores of such rows in place, shape (B, V)."""
        formed = [at for at, row in enumerate(rows) if row.form]
        if formed:
            blocked = torch.from_numpy(self._masks([rows[at] for at in formed], scores.shape[-1]))
            scores[formed] = scores[formed].masked_fill_(blocked.to(scores.device), -torch.inf)

    def _masks(self, rows: Sequence[Formed], vocabulary: int) -> NDArray[numpy.bool_]:
        """What is blocked for each of these, the same in all ranks."""
        blocked = numpy.zeros((len(rows), vocabulary), numpy.bool_)
        for out, row in zip(blocked, rows, strict=True):
            mask = row.form.mask(row.made) if row.form and self._first else None
            if mask is not None:
                out[:] = True
                out[: len(mask) - 1] = ~mask[:-1]
        if self._group is None:
            return blocked
        packed = torch.from_numpy(numpy.packbits(blocked))
        distributed.broadcast(packed, src=0, group=self._group)
        bits = numpy.unpackbits(packed.numpy(), count=blocked.size)
        return bits.reshape(blocked.shape).astype(numpy.bool_)
