"""Random faults of the matrix under mixed load for some minutes: the same invariants at the end.

HEADRACE_CHAOS_SEED names other seeds than those of `make faults`, HEADRACE_CHAOS_S another time. A seed says which
fault comes when, not how the processes meet it: one that has failed once may need some tries to fail again.
"""

from __future__ import annotations

import os
import random
import threading
import time

import pytest

from tests.faults.conftest import FULL
from tests.faults.matrix.conftest import Rigs
from tests.faults.matrix.invariants import check, unlucky
from tests.faults.matrix.mix import Load
from tests.faults.matrix.report import Outcome, Report
from tests.faults.matrix.rig import World
from tests.faults.matrix.row import Row
from tests.faults.matrix.rows import ROWS
from tests.faults.matrix.run import Probe

SEEDS = [int(seed) for seed in os.environ.get("HEADRACE_CHAOS_SEED", "1,2,3").split(",")]
LASTS_S = float(os.environ.get("HEADRACE_CHAOS_S", "600" if FULL else "0"))
FAULTS = [row for row in ROWS if row.chaos]
#: Pause between two faults, and between two waves of requests, at most.
REST_S, WAVE_S = 4.0, 6.0
#: All have ended so long after the last fault.
ENDS_S = 120.0
#: Of a remote answer.
WORDS = 60

#: Our own connections to Redis break too, and may not be closed as properly as we want it elsewhere.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def storm(world: World, load: Load, rng: random.Random, until: float) -> list[str]:
    """Fault after fault. Returns what was done when."""
    began, done = time.monotonic(), []
    while time.monotonic() < until:
        time.sleep(rng.uniform(0, REST_S))
        row: Row = rng.choice(FAULTS)
        done.append(f"{time.monotonic() - began:.1f} s {row.name}")
        try:
            row.fault(world, load)
        except Exception as error:  # the victim of one fault may be down from the one before
            done[-1] += f" ({type(error).__name__}: {error})"
    return done


def waves(load: Load, rng: random.Random, over: threading.Event) -> None:
    """Requests of all kinds, all the time."""
    while not over.wait(rng.uniform(WAVE_S / 2, WAVE_S)):
        load.mixed(fault_s=rng.uniform(-4, 4), full=False, words=WORDS)


@pytest.mark.skipif(not LASTS_S, reason="takes its time: HEADRACE_CHAOS_S=600, or HEADRACE_FAULTS=full")
@pytest.mark.timeout(LASTS_S + 400)
@pytest.mark.parametrize("seed", SEEDS)
def test_chaos(rigs: Rigs, report: Report, seed: int) -> None:
    world = rigs.get("plain")
    world.openai.words = world.anthropic.words = WORDS
    rng, load, over = random.Random(seed), Load.with_key(world), threading.Event()
    outcome = Outcome(f"chaos_{seed}")
    sender = threading.Thread(target=waves, args=(load, random.Random(seed + 1), over), daemon=True)
    sender.start()
    try:
        done = storm(world, load, rng, time.monotonic() + LASTS_S)
        over.set()
        sender.join(30)
        probe = Probe(load)
        load.join(ENDS_S)
        outcome.serves_after_s = probe.join()
        check(load, outcome, without=unlucky(load))
        report.note(outcome)
        problems = outcome.problems(judge_times=False)
        assert not problems, "\n".join([world.stack.logs(), f"seed {seed}", *done, *problems, *outcome.notes[:40]])
    except BaseException:
        rigs.close()
        raise
