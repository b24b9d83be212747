"""The slots of a batch: who holds how many. Knows no engine."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

Owner = TypeVar("Owner")


@dataclass(eq=False)
class Ticket(Generic[Owner]):
    """Slots of a batch that are held until they are given back; `owner` is what fills them, once it is there."""

    slots: int
    #: All that there are.
    total: int
    #: Expected in the KV cache.
    tokens: int = 0
    #: Of the job that is to fill them, as far as that is known before it is claimed: its API key, whether it is a
    #: background job, and whether it gives way to others in the engine.
    key_id: str = ""
    background: bool = False
    yields: bool = False
    owner: Owner | None = None

    def grow(self, slots: int) -> None:
        """It turns out that so many are needed."""
        self.slots = max(self.slots, min(slots, self.total))


class Slots(Generic[Owner]):
    """The slots of one batch, one a sequence. Any thread may call it, and nobody waits here."""

    def __init__(self, total: int) -> None:
        self.total = total
        self._held: set[Ticket[Owner]] = set()
        self._lock = threading.Lock()

    @property
    def free(self) -> int:
        """Slots that nobody holds; below 0 while some are about to be given back."""
        with self._lock:
            return self.total - sum(ticket.slots for ticket in self._held)

    def held(self) -> list[tuple[Owner, int]]:
        """Those that fill slots, and how many."""
        return [(ticket.owner, ticket.slots) for ticket in self.tickets() if ticket.owner is not None]

    def tickets(self) -> list[Ticket[Owner]]:
        """All that are held, also those that nothing fills yet."""
        with self._lock:
            return list(self._held)

    @property
    def tokens(self) -> int:
        """What all that is held is expected to take in the KV cache."""
        with self._lock:
            return sum(ticket.tokens for ticket in self._held)

    def hold(self, count: int, tokens: int = 0, **about: Any) -> Ticket[Owner]:
        """Take `count` slots, or all there are if that is fewer; `about` the job, see Ticket."""
        ticket = Ticket[Owner](min(count, self.total), self.total, tokens, **about)
        with self._lock:
            self._held.add(ticket)
        return ticket

    def give_back(self, ticket: Ticket[Owner]) -> None:
        """Free slots again. Nothing if that was done before."""
        with self._lock:
            self._held.discard(ticket)

    def leave(self, owner: object) -> int:
        """Free the slots of an owner. Returns how many that were."""
        with self._lock:
            own = {ticket for ticket in self._held if ticket.owner is owner}
            self._held -= own
        return sum(ticket.slots for ticket in own)
