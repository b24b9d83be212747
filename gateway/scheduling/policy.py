"""What a replica may take back, and what it owes: pure decisions about the slots of one batch.

Jobs that somebody waits for come before background jobs. These get all that is left, and a share in any case.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

#: The share of background jobs is kept over about so many seconds.
MEMORY_S = 10.0


@dataclass(frozen=True)
class Holder:
    """A job that holds slots of a batch."""

    job: Hashable
    key_id: str
    slots: int
    background: bool
    #: When it was claimed, in seconds of any steady clock.
    since_s: float
    #: How often it has given its slots to others.
    preemptions: int = 0


@dataclass(frozen=True)
class Preemption:
    """Which jobs give back their slots for jobs that somebody waits for."""

    enabled: bool = True
    #: A job that has given its slots to others so often keeps them.
    most_times: int = 16

    def background_slots(self, holders: Sequence[Holder], *, owed: bool) -> int:
        """Slots that background jobs give back; none while they have not had their share."""
        return 0 if owed else sum(one.slots for one in self._background(holders))

    def crowded_slots(self, holders: Sequence[Holder], slots: int) -> int:
        """Slots that the API key with the most gives to others that have fewer: those above half of the batch."""
        most = max(self.held(holders).values(), default=0)
        able = sum(one.slots for one in self._crowding(holders))
        return max(0, min(able, most - math.ceil(slots / 2)))

    def held(self, holders: Sequence[Holder]) -> Counter[str]:
        """Slots that interactive jobs hold, by API key."""
        found: Counter[str] = Counter()
        for one in holders:
            if not one.background:
                found[one.key_id] += one.slots
        return found

    def victims(self, holders: Sequence[Holder], slots: int) -> list[Holder]:
        """The youngest that together hold so many slots: background jobs, then those of the key that holds the most."""
        found: list[Holder] = []
        for one in [*self._background(holders), *self._crowding(holders)]:
            if slots <= 0:
                break
            found.append(one)
            slots -= one.slots
        return found

    def _background(self, holders: Sequence[Holder]) -> list[Holder]:
        return self._youngest([one for one in holders if one.background])

    def _crowding(self, holders: Sequence[Holder]) -> list[Holder]:
        most = self.held(holders).most_common(1)
        return self._youngest([one for one in holders if most and not one.background and one.key_id == most[0][0]])

    def _youngest(self, holders: Sequence[Holder]) -> list[Holder]:
        able = [one for one in holders if self.enabled and one.preemptions < self.most_times]
        return sorted(able, key=lambda one: -one.since_s)


class BackgroundShare:
    """What background jobs are owed: a share of the tokens, and of the starts while others wait."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._background = self._all = 0.0
        self._counted_s: float | None = None
        self._starts = 0

    def count(self, now_s: float, *, background: int, interactive: int) -> None:
        """Tokens that were made since the last call. `now_s` is of any steady clock."""
        if self._counted_s is not None:
            kept = math.exp((self._counted_s - now_s) / MEMORY_S)
            self._background, self._all = self._background * kept, self._all * kept
        self._counted_s = now_s
        self._background += background
        self._all += background + interactive

    def started(self, *, background: int, interactive: int) -> None:
        """Jobs have got slots."""
        self._starts = 0 if background else self._starts + interactive

    @property
    def owed(self) -> bool:
        """Whether background jobs have got less than their share of the tokens: then they keep their slots."""
        return self._background < self._share * self._all

    @property
    def is_next(self) -> bool:
        """Whether a background job starts before all others: its share is owed, and so many others have started."""
        return self.owed and self._starts >= math.ceil(1 / self._share)
