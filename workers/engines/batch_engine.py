"""What engines have in common: who is in the batch, and who must still be told that it was taken out."""

from __future__ import annotations

from typing import Generic, TypeVar

from workers.engines.base import SequenceOutput

#: What an engine keeps of a sequence.
Held = TypeVar("Held")


class BatchEngine(Generic[Held]):
    """What is the same for all. An engine puts its sequences into `_held`, and takes them out when they have ended."""

    def __init__(self) -> None:
        self._held: dict[int, Held] = {}
        self._cancelled: list[int] = []

    def cancel(self, sequence_id: int) -> None:
        """Take a sequence out; the next step reports it as cancelled. Unknown ids are ignored."""
        if sequence_id in self._held:
            self._withdraw(sequence_id, self._held.pop(sequence_id))
            self._cancelled.append(sequence_id)

    def step(self) -> list[SequenceOutput]:
        """Advance every running sequence."""
        cancelled, self._cancelled = self._cancelled, []
        return [SequenceOutput(i, [], None, "cancelled") for i in cancelled] + self._advance()

    def has_work(self) -> bool:
        """Whether anything runs, waits or is to be reported."""
        return bool(self._held or self._cancelled)

    def num_sequences(self) -> int:
        """Running and waiting sequences."""
        return len(self._held)

    def kv_used_tokens(self) -> int:
        """Tokens of the KV cache that are taken: unless an engine says more, it does not tell."""
        return 0

    def close(self) -> None:
        """End the threads that it has started: none, unless an engine says more."""

    def _withdraw(self, sequence_id: int, held: Held) -> None:
        """Tell the library that nobody wants a sequence any more."""

    def _advance(self) -> list[SequenceOutput]:
        """What a step makes."""
        raise NotImplementedError
