"""The lines of a model in Redis: what a worker with free slots is offered next.

Jobs that have lost their worker come first; then those that somebody waits for, key by key, so that each API key gets
its part of the tokens ("Fairness in Serving Large Language Models", Sheng et al., OSDI 2024); then background jobs,
likewise. `lua/lib_lines.lua` has the structure, `lua/next_jobs.lua` the order; scripts that change a record keep the
lines true. An offer removes nothing: what is not claimed is offered again.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple, cast

import redis

from gateway.store import keys
from gateway.store.connection import pipeline
from gateway.store.scripts import Scripts

#: How long a worker has to claim what it was offered.
OFFER_MS = 2_000
#: A token that is made costs so many of those that are read.
OUTPUT_COST = 2
#: More tokens than an answer has.
MANY = 10**9
#: Tokens, over the weight of their API key, by (background, key).
Charges = Mapping[tuple[bool, str], float]
NO_CHARGES: Charges = MappingProxyType({})
#: Jobs that have lost their worker; and the lines in which jobs are served key by key.
FIRST, INTERACTIVE, BACKGROUND = "first", "interactive", "background"


@dataclass(frozen=True)
class Wish:
    """What a worker could take now. Counts are slots: of a replica sequences of its batch, else jobs."""

    #: The queue that wakes it.
    queue: str
    #: Slots of its batch: no job takes more.
    total: int
    free: int
    #: Tokens that its KV cache has room for; -1: any number. An answer is expected to have `answer` tokens at most, and
    #: no sequence has more than `context`.
    room: int = -1
    answer: int = MANY
    context: int = MANY
    #: Slots to take back from background jobs, and from interactive jobs of keys that hold more than others.
    background: int = 0
    crowded: int = 0
    #: Background jobs that come before interactive ones now: their share is owed.
    owed: int = 0
    #: Slots that background jobs hold, and may hold, together; and the interactive jobs of one key.
    background_held: int = 0
    background_most: int = MANY
    key_most: int = MANY
    #: Whether it has nothing else to do but a job that may kill it.
    quarantined: bool = True
    #: Whether it is to be told of the next job; else it asks again soon.
    tell: bool = True
    #: Slots that its interactive jobs hold, by API key.
    held: Mapping[str, int] = field(default_factory=dict)
    #: By line, the model that was the last to give a job: the next one's turn it is.
    served: Mapping[str, str] = field(default_factory=dict)


class Waiting(NamedTuple):
    """How many jobs wait in the lines of a model."""

    interactive: int
    background: int


@dataclass(frozen=True)
class Offer:
    """A job that a worker may claim."""

    job_id: str
    model: str
    #: The line it stood in.
    line: str
    key_id: str
    slots: int
    #: Tokens of its prompt over the weight of its API key, and the most that it may have in the KV cache.
    prompt: int
    most: int
    #: It has to take back slots first.
    takes_back: bool = False

    def tokens(self, wish: Wish) -> int:
        """What it is expected to take in the KV cache of a replica."""
        return min(self.most, self.prompt + self.slots * wish.answer, self.slots * wish.context)

    @property
    def is_new(self) -> bool:
        """Whether it has certainly never begun: then its prompt is still to be charged."""
        return self.line in (INTERACTIVE, BACKGROUND) and self.prompt > 0


class Lines:
    """The lines of all models."""

    def __init__(self, client: redis.Redis, scripts: Scripts) -> None:
        self._redis = client
        self._scripts = scripts

    def next_jobs(self, model: str, wish: Wish, charges: Charges = NO_CHARGES) -> list[Offer]:
        """The best jobs that a replica has slots for; it counts as open to more if it has any left.

        `charges` are counted before: tokens that were made since the last call. Raises: NOT_NOW.
        """
        return self.next_of([model], wish, {model: charges})

    def next_of(self, models: Sequence[str], wish: Wish, charges: Mapping[str, Charges]) -> list[Offer]:
        """The same for a worker of several models. They take turns, in their order, to give it recovered jobs; then
        interactive jobs; then background jobs, if no interactive job of any of them waits. Raises: NOT_NOW.
        """
        pipe = self._redis.pipeline(transaction=False)
        for model, of_model in charges.items():
            if of_model:
                spent = (
                    (BACKGROUND if background else INTERACTIVE, key_id, f"{tokens:.3f}")
                    for (background, key_id), tokens in of_model.items()
                )
                self._scripts.add(pipe, "charge", [keys.lines(model)], *(part for one in spent for part in one))
        numbers = (wish.total, wish.free, wish.room, wish.background, wish.crowded, wish.owed, int(wish.quarantined))
        more = (int(wish.tell), wish.answer, wish.context, wish.background_held, wish.background_most, wish.key_most)
        turns = (bisect_right(models, wish.served.get(line, "")) for line in (FIRST, INTERACTIVE, BACKGROUND))
        held = (part for pair in wish.held.items() for part in pair)
        lines = [keys.lines(model) for model in models]
        self._scripts.add(pipe, "next_jobs", lines, wish.queue, *numbers, OFFER_MS, *more, *turns, *held)
        back, *members = self._scripts.execute(pipe)[-1]
        within = len(members) - int(back)
        return [_offer(member, models, takes_back=i >= within) for i, member in enumerate(members)]

    def waiting(self, model: str) -> Waiting:
        """How many wait at this moment. Raises: NOT_NOW."""
        counts = [("ZCARD", f"{keys.lines(model)}:{line}") for line in (INTERACTIVE, BACKGROUND)]
        replies = pipeline(self._redis, counts, raise_on_error=False)
        # What somebody else has put there is removed when a replica asks.
        return Waiting(*(0 if isinstance(reply, Exception) else reply for reply in replies))

    def close(self, model: str, queue: str, left: Collection[str] = ()) -> None:
        """A worker takes no job of a model now, so that it is not told of any. What it was offered, and has `left`, is
        offered to the next that asks. Raises: NOT_NOW.
        """
        self._redis.zrem(keys.openings(model), queue)
        offered = f"{keys.lines(model)}:offered"
        members = cast("list[str]", self._redis.zrange(offered, 0, -1)) if left else []
        if ended := {member: 0 for member in members if member.rpartition("|")[2] in left}:
            self._redis.zadd(offered, ended, xx=True)


def _offer(member: str, models: Sequence[str], *, takes_back: bool) -> Offer:
    number, line, job = member.split(":", 2)
    key_id, _, slots, prompt, most, job_id = job.split("|", 5)
    return Offer(job_id, models[int(number) - 1], line, key_id, int(slots), int(prompt), int(most), takes_back)
