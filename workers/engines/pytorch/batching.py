"""Which sequences share the next forward pass of an encoder. Imports no torch, so that it is tested without a device.

Sequences of like length go together, since padding costs as much as tokens do. Jobs take turns, so that a small one
never waits for all of a large one. A pass takes about as long as `workers/engines/prefill.py` allows a step without
answers, by the speed that was measured: so long waits a short text behind long ones. Sequences that yield share no pass
with others, and wait for them, but have each `OLDEST_EACH`-th pass.
"""

from __future__ import annotations

from dataclasses import dataclass

from workers.engines.base import SequenceRequest
from workers.engines.prefill import OLDEST_EACH, Pace

#: Tokens in one forward pass, padding included. More make it slower a token on a CPU: they leave the cache.
MAX_BATCH_TOKENS = 1024
#: Padding in one forward pass. A pass costs as much as about so many tokens by itself.
MAX_PADDING_TOKENS = 128
#: Tokens that one job brings into one turn.
TURN_TOKENS = 4096


@dataclass
class Share:
    """The turn that a job's next sequence belongs to, and the tokens that the job has in it."""

    turn: int
    tokens: int = 0


class Batcher:
    """What waits, by turn. The lowest turn is served first, its shortest sequences first.

    Each `OLDEST_EACH`-th batch begins with the oldest of the turn: shorter ones may join it at any time.
    """

    def __init__(self, max_batch_tokens: int = MAX_BATCH_TOKENS, pace: Pace | None = None) -> None:
        self.max_batch_tokens = max_batch_tokens
        self.pace = pace or Pace()
        self._batches = 0
        self._turns: dict[int, dict[int, SequenceRequest]] = {}
        self._turn_of: dict[int, int] = {}
        self._shares: dict[str, Share] = {}

    def __len__(self) -> int:
        return len(self._turn_of)

    def add(self, request: SequenceRequest) -> None:
        """Let a sequence wait. Those of one job (the part of `key` before `/`) fill turn after turn."""
        job = request.key.partition("/")[0]
        now = min(self._turns, default=0)
        share = self._shares.get(job)
        if share is None or share.turn < now:
            share = self._shares[job] = Share(now)
        elif share.tokens >= TURN_TOKENS:
            share.turn, share.tokens = share.turn + 1, 0
        share.tokens += len(request.prompt_ids)
        self._turns.setdefault(share.turn, {})[request.sequence_id] = request
        self._turn_of[request.sequence_id] = share.turn

    def remove(self, sequence_id: int) -> bool:
        """Take a sequence out. False if it does not wait."""
        turn = self._turn_of.pop(sequence_id, None)
        if turn is None:
            return False
        del self._turns[turn][sequence_id]
        if not self._turns[turn]:
            del self._turns[turn]
            self._shares = {job: share for job, share in self._shares.items() if share.turn > turn}
        return True

    def next_batch(self) -> list[SequenceRequest]:
        """Take out what the next forward pass computes; empty if nothing waits."""
        if not self._turns:
            return []
        self._batches += 1
        most = min(self.max_batch_tokens, self.pace.tokens(decoding=False))
        batch: list[SequenceRequest] = []
        tokens = 0
        for request in self._in_order(list(self._turns[min(self._turns)].values())):
            length = len(request.prompt_ids)
            padded = (len(batch) + 1) * length
            if batch and (padded > most or padded - tokens - length > MAX_PADDING_TOKENS):
                break
            batch.append(request)
            tokens += length
        for request in batch:
            self.remove(request.sequence_id)
        return batch

    def _in_order(self, waiting: list[SequenceRequest]) -> list[SequenceRequest]:
        """From the shortest to the longest, perhaps from the oldest on."""
        ordered = sorted(waiting, key=lambda request: len(request.prompt_ids))
        if self._batches % OLDEST_EACH:
            return ordered
        oldest = waiting[0]
        longer = [one for one in ordered if one is not oldest and len(one.prompt_ids) >= len(oldest.prompt_ids)]
        return [oldest, *longer]


class Passes:
    """Two queues: of sequences that yield, and of the others."""

    def __init__(self, max_batch_tokens: int = MAX_BATCH_TOKENS) -> None:
        self.pace = Pace()
        self._others, self._yielding = (Batcher(max_batch_tokens, self.pace) for _ in range(2))
        self._made = 0

    def add(self, request: SequenceRequest) -> None:
        """Let a sequence wait."""
        (self._yielding if request.yields else self._others).add(request)

    def remove(self, sequence_id: int) -> bool:
        """Take a sequence out. False if it does not wait."""
        return self._others.remove(sequence_id) or self._yielding.remove(sequence_id)

    def next_batch(self) -> list[SequenceRequest]:
        """Take out what the next forward pass computes; empty if nothing waits."""
        self._made += 1
        first, second = self._others, self._yielding
        if self._made % OLDEST_EACH == 0:
            first, second = second, first
        return first.next_batch() or second.next_batch()
