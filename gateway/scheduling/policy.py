"""What a replica may take back, and what it owes: pure decisions about the slots of one batch.

Jobs that somebody waits for come before background jobs. These get all that is left, and a share in any case.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

#: The share of background jobs is kept over about so many seconds.
MEMORY_S = 10.0
#: Somebody who had a job in the batch so recently is taken to come again: others keep back for that long.
PRESENT_S = 3.0
#: By which part background jobs may make a step longer for others, and a key that has more jobs there than the others.
BACKGROUND_STRETCH, CROWD_STRETCH = 0.5, 1.0
#: But such a key may have this part of the batch in any case.
CROWD_SHARE = 1 / 3
#: Who holds more than its limit by so much gives slots back: a limit follows what is measured, and moves all the time.
SLACK = 1.25


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

    def excess(self, holders: Sequence[Holder], limits: SlotLimits, *, owed: bool) -> list[Holder]:
        """The youngest of those who together hold more than they may while others are there."""
        background = sum(one.slots for one in holders if one.background)
        most = max(self.held(holders).values(), default=0)
        found: list[Holder] = []
        if background > SLACK * limits.background and not owed:
            found += _at_most(background - limits.background, self._background(holders))
        if most > SLACK * limits.one_key:
            found += _at_most(most - limits.one_key, self._crowding(holders))
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


def _at_most(slots: int, able: Sequence[Holder]) -> list[Holder]:
    """The first ones that together hold no more than so many slots."""
    found: list[Holder] = []
    for one in able:
        if one.slots <= slots:
            found.append(one)
            slots -= one.slots
    return found


@dataclass(frozen=True)
class SlotLimits:
    """Slots of a batch that may be held together by background jobs, and by the interactive jobs of one API key."""

    background: int
    one_key: int

    def are_reached(self, background: int, held: Mapping[str, int], slots: int) -> bool:
        """Whether somebody who holds so many may have no more of the `slots` of the batch, though some are free."""
        most = max(held.values(), default=0)
        return (self.background < slots and background >= self.background) or (
            self.one_key < slots and most >= self.one_key
        )


class Presence:
    """Who has interactive jobs in a batch, and how many slots others may hold beside them.

    The more sequences a batch has, the longer takes each step. Who alone fills it would take that time from others
    whenever they come, so that these limits hold from the first of their jobs to a while after the last.
    """

    def __init__(self, slots: int, background_share: float) -> None:
        self._slots = slots
        self._least_background = max(1, math.ceil(background_share * slots))
        #: By API key: slots of its interactive jobs, a mean over about `PRESENT_S`; when it had one last.
        self._mean: dict[str, float] = {}
        self._seen_s: dict[str, float] = {}
        self._noted_s = 0.0

    def note(self, now_s: float, held: Mapping[str, int]) -> None:
        """Slots that interactive jobs hold now, by API key. `now_s` is of any steady clock."""
        kept = math.exp((self._noted_s - now_s) / PRESENT_S)
        self._noted_s = now_s
        self._seen_s |= dict.fromkeys(held, now_s)
        self._seen_s = {key: seen_s for key, seen_s in self._seen_s.items() if seen_s > now_s - PRESENT_S}
        self._mean = {key: self._mean.get(key, 0) * kept + held.get(key, 0) * (1 - kept) for key in self._seen_s}

    def limits(self, base_s: float, each_s: float) -> SlotLimits:
        """A step takes `base_s`, and `each_s` more for each sequence; both are 0 if that is not known."""
        background = one_key = self._slots
        if self._mean and each_s:
            room = BACKGROUND_STRETCH * (base_s / each_s + sum(self._mean.values()))
            background = min(self._slots, max(self._least_background, round(room)))
        if len(self._mean) > 1 and each_s:
            others = sum(self._mean.values()) - max(self._mean.values())
            room = CROWD_STRETCH * (base_s / each_s + others)
            one_key = min(self._slots, max(math.ceil(CROWD_SHARE * self._slots), round(room)))
        return SlotLimits(background, one_key)

    def crowds(self, key: str, slots: int) -> bool:
        """Whether a key with so many slots has more than twice those of the others, on average."""
        others = [mean for other, mean in self._mean.items() if other != key]
        return bool(others) and slots > 2 * max(1.0, sum(others) / len(others))


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
