"""The scheduler of transformers' continuous batching that computes prompts as `workers/engines/prefill.py` says.

Not for a model that several processes share: they must schedule alike, and each would measure another speed.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from typing import Any

from transformers.generation.continuous_batching.requests import RequestStatus
from transformers.generation.continuous_batching.scheduler import SCHEDULER_MAPPING, FIFOScheduler

from workers.engines.prefill import AnswerLengths, CacheRoom, Prefill, Prompt
from workers.engines.pytorch.row import row_of

#: The `scheduler_type` of a ContinuousBatchingConfig.
PACED = "paced"
#: The least of a prompt that a step computes.
PIECE_TOKENS = 32
#: How long a step waits for the masks of grammars that are late.
LATE_S = 0.005


class PacedScheduler(FIFOScheduler):
    """The one of the library, but for the order of prompts and how much of them a step holds."""

    def reset(self) -> None:
        """Before anything is scheduled."""
        super().reset()
        #: Tokens of one block of the KV cache.
        self._page_tokens = max(int(one.tokens_per_page) for one in self.cache.cache_allocators.values())
        self._room = CacheRoom[str](self.cache.num_blocks * self._page_tokens)
        self._answers = AnswerLengths()
        self._prefill: Prefill | None = None
        #: When the present step was scheduled, how many tokens of prompts it has, and whether answers go on in it.
        self._step: tuple[float, int, bool] | None = None

    def has_pending_requests(self) -> bool:
        """The manager asks before it schedules a step: the one before has ended."""
        if self._step and self._prefill:
            begun, tokens, decoding = self._step
            self._prefill.pace.note(time.monotonic() - begun, tokens=tokens, decoding=decoding)
        self._step = None
        return bool(super().has_pending_requests())

    def schedule_batch(self, token_budget: int, cache_budget: int) -> tuple[list[Any] | None, bool, int, int]:
        """The states of the next step, as the library's scheduler returns them: answers first, then prompts."""
        if self._prefill is None:
            self._prefill = Prefill(block_tokens=PIECE_TOKENS, max_step_tokens=token_budget)
        active = list(self.active_requests.values())
        decoding = [state for state in active if state.status == RequestStatus.DECODING]
        prompts = [state for state in active if state.status == RequestStatus.PREFILLING]
        prompts += [] if self.block_new_requests else self._fitting()
        decoding = _in_time(decoding, alone=not prompts)
        plan = self._prefill.plan(
            [Prompt(i, len(state.remaining_prefill_tokens), _yields(state)) for i, state in enumerate(prompts)],
            decoding=len(decoding),
            yielding=sum(map(_yields, decoding)),
        )
        # Those that are not planned get what the others leave, if these do not fit into the cache.
        ordered = decoding + [prompts[i] for i in plan] + [state for i, state in enumerate(prompts) if i not in plan]
        budget = min(token_budget, len(decoding) + sum(plan.values()))
        begun: set[str] = set()
        scheduled, lacks_room, is_decode, num_tokens, num_read = self._process_candidates(
            ordered, budget, cache_budget, begun
        )
        self._cleanup_waiting_queue(begun)
        self._step = (time.monotonic(), max(0, num_tokens - len(decoding)), bool(decoding))
        if not scheduled and lacks_room:
            return None, is_decode, 0, 0
        return scheduled, is_decode, num_tokens, num_read

    def _infer_request_tokens(self, state: Any, begun: set[str]) -> list[int]:
        """The tokens of a request that a step may compute: all, where something is asked of each of its prompt."""
        row = row_of(state)
        if state.status == RequestStatus.PENDING and row and row.wants_prompt:
            return list(state.remaining_prefill_tokens)
        found: list[int] = super()._infer_request_tokens(state, begun)
        return found

    def finish_request(self, request_id: str) -> None:
        """It has ended, and its blocks are free."""
        if state := self.active_requests.get(request_id):
            self._answers.note(_made(state))
        super().finish_request(request_id)

    def _fitting(self) -> list[Any]:
        """Those that wait, and may begin: else the library would throw away what it has computed of the youngest."""
        waiting = {state.request_id: state for state in self._get_waiting_candidates()}
        taken = sum(map(self._tokens, self.active_requests.values()))
        tokens = {name: self._tokens(state) for name, state in waiting.items()}
        return [waiting[name] for name in self._room.fitting(tokens, taken=taken)]

    def _tokens(self, state: Any) -> int:
        """Of the blocks that a sequence has, or is expected to need."""
        made = _made(state)
        most = made - len(state.generated_tokens) + state.max_new_tokens
        tokens = _prompt(state) + self._answers.expected(made=made, max_tokens=most)
        return int(-(-tokens // self._page_tokens) * self._page_tokens)


def _in_time(states: Sequence[Any], *, alone: bool) -> list[Any]:
    """Those of sequences that are to make a token whose masks are there, all of them in most steps.

    If they are `alone` in the step, it waits for the first.
    """
    rows = {id(state): row for state in states if (row := row_of(state)) and row.form}
    masks = {name: row.form.prepare(row.made) for name, row in rows.items() if row.form}
    if masks:
        wait(masks.values(), timeout=LATE_S)
        if alone and len(masks) == len(states):
            wait(masks.values(), return_when=FIRST_COMPLETED)
    return [state for state in states if id(state) not in masks or masks[id(state)].done()]


def _prompt(state: Any) -> int:
    """Tokens of its prompt; a sequence that had to begin again has what it had made behind it."""
    return state._true_initial_tokens or len(state.initial_tokens)


def _made(state: Any) -> int:
    """Tokens of its answer."""
    return len(state.initial_tokens) - _prompt(state) + len(state.generated_tokens)


def _yields(state: Any) -> bool:
    row = row_of(state)
    return row is not None and row.yields


SCHEDULER_MAPPING[PACED] = PacedScheduler
