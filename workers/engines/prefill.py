"""What of the prompts that wait an engine computes in its next step. Knows no engine and no clock: it is told.

The shortest prompt comes first, but each `OLDEST_EACH`-th step begins with the oldest, so that none waits for ever.
While answers are made, a step takes about `GAP_S`, by the speed that was measured: that is the gap that readers see.
Prompts that yield wait for those that do not, and lengthen the steps of others only a little.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Generic, NamedTuple, TypeVar

#: The time between two tokens of an answer while prompts are computed, in seconds: some steps take longer, and 0.15 is
#: what readers may see. And the share of it that prompts get at least.
GAP_S, LEAST_SHARE = 0.13, 1 / 3
#: A step in which no answer goes on takes so many seconds: as long waits a short prompt that comes meanwhile. Smaller
#: ones than this would cost more than they save: each step reads all weights again.
ALONE_S, LEAST_ALONE_TOKENS = 0.6, 256
#: Of so many steps one begins with the oldest prompt.
OLDEST_EACH = 4
#: Prompts that yield make a step without prompts longer by this part of it, where somebody does not.
YIELDING_STRETCH = 0.5
#: Speed is that of about so many tokens that were computed last.
MEMORY_TOKENS = 256.0
#: Steps in which others may begin though an older prompt waits for room in the cache.
PASSING_STEPS = 300
#: Tokens that an answer is expected to have before any has ended, and what one counts that has.
FIRST_EXPECTED, ANSWER_WEIGHT = 512, 0.05
#: What one step counts for the time that a step without prompts takes.
DECODE_WEIGHT = 0.2
#: One step may change what is thought of the speed by so much: the process may have been stopped meanwhile.
MOST_CHANGE = 2.0

#: How an engine names a sequence.
Name = TypeVar("Name", int, str)


class Prompt(NamedTuple):
    """A prompt that waits, and how many of its tokens are still to be computed."""

    sequence_id: int
    tokens: int
    #: See `SequenceRequest`.
    yields: bool = False


class Pace:
    """How long steps take here: learned from each, whatever the device, the model and who else works there."""

    def __init__(self) -> None:
        #: A step in which answers go on and no prompt is computed, in seconds.
        self._decode_s = 0.0
        #: Tokens of prompts that were computed, and the seconds that they took, the last ones counting most.
        self._tokens = self._seconds = 0.0

    def note(self, step_s: float, *, tokens: int, decoding: bool) -> None:
        """A step took so long; it has computed so many tokens of prompts, and perhaps answers went on."""
        if not tokens:
            if decoding:
                usual_s = self._decode_s or step_s
                self._decode_s = usual_s + DECODE_WEIGHT * (min(step_s, MOST_CHANGE * usual_s) - usual_s)
            return
        seconds = max(0.0, step_s - self._decode_s) if decoding else step_s
        if self._tokens:
            seconds = min(seconds, MOST_CHANGE * tokens * self._seconds / self._tokens)
        kept = 0.5 ** (tokens / MEMORY_TOKENS)
        self._tokens = self._tokens * kept + tokens
        self._seconds = self._seconds * kept + seconds

    def tokens(self, *, decoding: bool) -> float:
        """Tokens of prompts that the next step has time for; few until anything was measured."""
        speed = self._tokens / self._seconds if self._seconds else 0.0
        if not decoding:
            return max(ALONE_S * speed, LEAST_ALONE_TOKENS)
        return max(GAP_S - self._decode_s, GAP_S * LEAST_SHARE) * speed

    @property
    def yielding_tokens(self) -> float:
        """Tokens of prompts that yield which the next step has time for, where somebody does not."""
        return YIELDING_STRETCH * self._decode_s * self._tokens / self._seconds if self._seconds else 0.0


class Prefill:
    """Shares the steps out among the prompts that wait."""

    def __init__(self, *, block_tokens: int, max_step_tokens: int) -> None:
        self.pace = Pace()
        #: A piece of a prompt is whole blocks: of these the cache can be asked.
        self._block_tokens = block_tokens
        self._max_step_tokens = max_step_tokens
        self._steps = 0

    def plan(self, prompts: Sequence[Prompt], *, decoding: int, yielding: int = 0) -> dict[int, int]:
        """How many tokens of which prompts the next step computes, of those given, the oldest first.

        It goes on with so many answers besides, of which some yield. A block, or all that is left of a prompt, is the
        least.
        """
        if not prompts:
            return {}
        self._steps += 1
        room = min(self.pace.tokens(decoding=decoding > 0), self._max_step_tokens - decoding)
        alone = decoding == yielding and all(prompt.yields for prompt in prompts)
        room_to_yield = room if alone else self.pace.yielding_tokens
        plan: dict[int, int] = {}
        for prompt in self._in_order(prompts):
            most = min(room, room_to_yield) if prompt.yields else room
            tokens = prompt.tokens
            if tokens > most:
                blocks = int(most) // self._block_tokens
                tokens = min(tokens, self._block_tokens * (blocks if plan else max(1, blocks)))
            if tokens > 0:
                plan[prompt.sequence_id] = tokens
                room -= tokens
                room_to_yield -= tokens if prompt.yields else 0
        return plan

    def _in_order(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        shortest_first = sorted(prompts, key=lambda prompt: (prompt.yields, prompt.tokens))
        if self._steps % OLDEST_EACH:
            return shortest_first
        return [prompts[0], *(prompt for prompt in shortest_first if prompt is not prompts[0])]


class AnswerLengths:
    """How many tokens an answer is expected to have, by those that have ended: twice the mean, a few are longer."""

    def __init__(self) -> None:
        self._mean = FIRST_EXPECTED / 2

    def note(self, tokens: int) -> None:
        """An answer has ended with so many."""
        self._mean += ANSWER_WEIGHT * (tokens - self._mean)

    def expected(self, *, made: int, max_tokens: int) -> int:
        """Tokens of an answer that has some already and may have so many."""
        return max(made, min(max_tokens, round(2 * self._mean)))


class CacheRoom(Generic[Name]):
    """Which prompts may begin: those that fit into the cache, answers included, beside all that have begun.

    So an engine need not throw away, for want of room, what it has computed. Younger ones may pass one that does not
    fit, for so many steps.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        #: For how many steps those had to wait that do not fit.
        self._waited: dict[Name, int] = {}

    def fitting(self, waiting: Mapping[Name, int], *, taken: int) -> list[Name]:
        """Those of a step that may begin, of those that wait and the tokens that each needs, the oldest first."""
        fitting, self._waited = [], {i: steps + 1 for i, steps in self._waited.items() if i in waiting}
        for sequence_id, tokens in waiting.items():
            if not taken or taken + tokens <= self.capacity:
                fitting.append(sequence_id)
                taken += tokens
            elif self._waited.setdefault(sequence_id, 0) >= PASSING_STEPS:
                break
        return fitting


class PrefixIndex:
    """Which beginnings of prompts a cache should still hold that shares their blocks, and that can't be asked.

    It is taken to forget the blocks that were used least recently. A guess that is wrong costs time only.
    """

    def __init__(self, *, block_tokens: int, num_blocks: int) -> None:
        self._block_tokens = block_tokens
        self._most = num_blocks
        self._blocks: OrderedDict[int, None] = OrderedDict()

    def names(self, token_ids: Sequence[int]) -> list[int]:
        """A name for each whole block, which depends on all tokens up to its end."""
        names: list[int] = []
        name = 0
        for end in range(self._block_tokens, len(token_ids) + 1, self._block_tokens):
            name = hash((name, *token_ids[end - self._block_tokens : end]))
            names.append(name)
        return names

    def add(self, names: Sequence[int]) -> None:
        """These blocks, from the first on, were computed or used now."""
        for name in names:
            self._blocks[name] = None
            self._blocks.move_to_end(name)
        while len(self._blocks) > self._most:
            self._blocks.popitem(last=False)

    def tokens(self, names: Sequence[int]) -> int:
        """How many tokens, from the first on, need not be computed again."""
        known = next((i for i, name in enumerate(names) if name not in self._blocks), len(names))
        return known * self._block_tokens
