"""Which sequence of the engine belongs to which run. Knows no engine, Redis or thread.

A run's remaining requests are made only while no output is added to it, so that it can leave the engine at any token,
and continue there later.
"""

from __future__ import annotations

import itertools
import threading

from workers.engines.base import SequenceOutput, SequenceRequest
from workers.handlers.base import EngineRun

#: The size of the block of sequence ids that each job gets.
MAX_SEQUENCES_PER_JOB = 4096


class Sequences:
    """The sequences that an engine holds."""

    def __init__(self) -> None:
        self._ids = itertools.count(1, MAX_SEQUENCES_PER_JOB)
        self._table: dict[int, tuple[EngineRun, int]] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._table)

    def runs(self) -> list[EngineRun]:
        """The runs with a sequence in the engine, each once."""
        with self._lock:
            return list(dict.fromkeys(run for run, _ in self._table.values()))

    def find(self, sequence_id: int) -> EngineRun | None:
        """The run of a sequence; None if it was removed."""
        return self._table.get(sequence_id, (None, 0))[0]

    def add(self, run: EngineRun) -> list[SequenceRequest]:
        """Add a run. Returns its requests, from where it is now; none if it is over."""
        with self._lock:
            if run.state is not None or run.finished.is_set():
                return []
            first_id = next(self._ids)
            requests = run.requests(first_id)
            for request in requests:
                self._table[request.sequence_id] = (run, request.sequence_id - first_id)
        return requests

    def take(self, output: SequenceOutput) -> bool:
        """Add an output to its run. Returns whether the engine must stop that sequence."""
        with self._lock:
            run, index = self._table.get(output.sequence_id, (None, 0))
            if run is None:
                return False
            stop = run.take(index, output)
            if stop or output.finish_reason:
                self._table.pop(output.sequence_id, None)
        return stop

    def remove(self, run: object) -> list[int]:
        """Remove the remaining sequences of a run. Returns their ids."""
        with self._lock:
            ids = [sequence_id for sequence_id, (owner, _) in self._table.items() if owner is run]
            for sequence_id in ids:
                del self._table[sequence_id]
        return ids

    def remove_all(self) -> list[int]:
        """Remove all sequences. Returns their ids."""
        with self._lock:
            ids, self._table = list(self._table), {}
        return ids
