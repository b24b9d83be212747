"""Runs one row: load, fault, ends, invariants."""

from __future__ import annotations

import threading
import time

from tests.faults.matrix.invariants import check, check_clients, measure
from tests.faults.matrix.load import Client, Plain
from tests.faults.matrix.mix import Load
from tests.faults.matrix.report import Outcome
from tests.faults.matrix.rig import World
from tests.faults.matrix.row import Row

#: All ends come within this time after the fault, beyond what the streams still have to say.
ENDS_S = 75.0


class Probe:
    """A new request at the end of the fault, and when it was answered."""

    def __init__(self, load: Load) -> None:
        self._began = time.monotonic()
        self._client: Client = Plain(load.world, load.key, tokens=3)
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.took_s: float | None = None
        load.add(self._client)
        self._thread.start()

    def _watch(self) -> None:
        self._client.thread.join()
        if self._client.ended and not self._client.error:
            self.took_s = round(time.monotonic() - self._began, 2)

    def join(self) -> float | None:
        """Seconds until the answer was there; None if none came."""
        self._thread.join(1)
        return self.took_s


def run(world: World, row: Row, *, full: bool) -> Outcome:
    """What came of it."""
    outcome = Outcome(row.name, late_s=row.late_s)
    load = Load.with_key(world)
    load.mixed(fault_s=row.lasts_s, full=full)
    row.also(load)
    load.await_middle()
    hit = row.fault(world, load)
    ended_at = time.monotonic()
    if row.forgets:
        return _streams_only(load, row, ended_at, outcome)
    probe = Probe(load)
    load.join(ENDS_S + row.lasts_s)
    measure(load, ended_at, hit, outcome)
    outcome.serves_after_s = probe.join()
    check(load, outcome)
    row.then(world, load)
    return outcome


def _streams_only(load: Load, row: Row, ended_at: float, outcome: Outcome) -> Outcome:
    outcome.serves = False
    for client in load.clients:
        if not client.streams:
            client.leave()
    load.clients = load.streams
    load.join(ENDS_S + row.lasts_s)
    measure(load, ended_at, None, outcome)
    check_clients(load, outcome)
    return outcome
