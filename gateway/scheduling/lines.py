"""The lines of a model in Redis: what a replica with free slots is offered next.

Jobs that have lost their worker come first; then those that somebody waits for, key by key, so that each API key gets
its part of the tokens ("Fairness in Serving Large Language Models", Sheng et al., OSDI 2024); then background jobs,
likewise. `lua/lib_lines.lua` has the structure, `lua/next_jobs.lua` the order; scripts that change a record keep the
lines true. An offer removes nothing: what is not claimed is offered again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple, cast

import redis

from gateway.store import keys
from gateway.store.connection import pipeline
from gateway.store.scripts import Scripts

#: How long a replica has to claim what it was offered.
OFFER_MS = 2_000
#: More tokens than an answer has.
MANY = 10**9
NO_CHARGES: Mapping[tuple[bool, str], float] = MappingProxyType({})
#: The lines in which jobs are served key by key.
INTERACTIVE, BACKGROUND = "interactive", "background"


@dataclass(frozen=True)
class Wish:
    """What a replica could take now. Counts are slots (sequences of a batch)."""

    #: The queue that wakes it.
    queue: str
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


class Waiting(NamedTuple):
    """How many jobs wait in the lines of a model."""

    interactive: int
    background: int


@dataclass(frozen=True)
class Offer:
    """A job that a replica may claim."""

    job_id: str
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

    def next_jobs(self, model: str, wish: Wish, charges: Mapping[tuple[bool, str], float] = NO_CHARGES) -> list[Offer]:
        """The best jobs that a replica has slots for; it counts as open to more if it has any left.

        `charges` are counted before: tokens that were made since the last call, over the weight of their API key, by
        (background, key). Raises: NOT_NOW.
        """
        lines = [keys.lines(model)]
        pipe = self._redis.pipeline(transaction=False)
        if charges:
            spent = (
                (BACKGROUND if background else INTERACTIVE, key_id, f"{tokens:.3f}")
                for (background, key_id), tokens in charges.items()
            )
            self._scripts.add(pipe, "charge", lines, *(part for one in spent for part in one))
        numbers = (wish.total, wish.free, wish.room, wish.background, wish.crowded, wish.owed, int(wish.quarantined))
        more = (int(wish.tell), wish.answer, wish.context, wish.background_held, wish.background_most, wish.key_most)
        held = (part for pair in wish.held.items() for part in pair)
        self._scripts.add(pipe, "next_jobs", lines, wish.queue, *numbers, OFFER_MS, *more, *held)
        back, *members = self._scripts.execute(pipe)[-1]
        within = len(members) - int(back)
        return [_offer(member, takes_back=i >= within) for i, member in enumerate(members)]

    def waiting(self, model: str) -> Waiting:
        """How many wait at this moment. Raises: NOT_NOW."""
        counts = [("ZCARD", f"{keys.lines(model)}:{line}") for line in (INTERACTIVE, BACKGROUND)]
        replies = pipeline(self._redis, counts, raise_on_error=False)
        # What somebody else has put there is removed when a replica asks.
        return Waiting(*(0 if isinstance(reply, Exception) else reply for reply in replies))

    def close(self, model: str, queue: str, left: Collection[str] = ()) -> None:
        """A replica takes no job now, so that it is not told of any. What it was offered, and has `left`, is offered to
        the next that asks. Raises: NOT_NOW.
        """
        self._redis.zrem(keys.openings(model), queue)
        offered = f"{keys.lines(model)}:offered"
        members = cast("list[str]", self._redis.zrange(offered, 0, -1)) if left else []
        if ended := {member: 0 for member in members if member.rpartition("|")[2] in left}:
            self._redis.zadd(offered, ended, xx=True)


def _offer(member: str, *, takes_back: bool) -> Offer:
    line, _, job = member.partition(":")
    key_id, _, slots, prompt, most, job_id = job.split("|", 5)
    return Offer(job_id, line, key_id, int(slots), int(prompt), int(most), takes_back)
