"""A row of the fault matrix: what goes wrong, for how long, in which system, and what else must hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.faults.matrix.mix import Load
from tests.faults.matrix.report import LATE_S
from tests.faults.matrix.rig import STEP_S, World

#: Does it, and returns when it is over: the ids of the jobs that were hit, or None for all streams. What else must
#: hold it asserts itself.
Fault = Callable[[World, Load], Sequence[str] | None]


@dataclass(frozen=True)
class Row:
    """One fault."""

    name: str
    fault: Fault
    #: About how long it lasts: streams are longer by that.
    lasts_s: float = 0.0
    #: The system, see `designs.py`.
    design: str = "plain"
    #: May be drawn in the chaos run: it leaves the system as it was.
    chaos: bool = False
    #: Sent besides the mixed load, before the fault.
    also: Callable[[Load], None] = lambda _: None
    #: Must hold at the end besides the common invariants.
    then: Callable[[World, Load], None] = lambda _, __: None
    #: Why it can't be run here; empty if it can.
    skip: Callable[[], str] = lambda: ""
    #: What comes later than this after the end of the fault is late.
    late_s: float = LATE_S
    #: How long the engine takes for a token.
    step_s: float = STEP_S
    #: Redis has lost everything, keys and records too: only streams that run are looked at, which must end whole.
    forgets: bool = False
    #: The system is not the same afterwards: the next row gets a new one.
    spoils: bool = False
