"""Faults of processes: killed, ended, stopped and continued, alone and together."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Sequence

import psutil

from tests.faults.matrix.mix import Load
from tests.faults.matrix.rig import World
from tests.faults.matrix.row import Fault
from tests.stack import eventually

#: Processes that hold claims: only their jobs are hit when they die.
_OWNERS = {"engine", "worker", "provider"}


def kill(*names: str) -> Fault:
    """`kill -9`, all at once; what is supervised is started again."""

    def fault(world: World, _: Load) -> Sequence[str] | None:
        hit = world.held_by(*names) if set(names) <= _OWNERS else None
        world.kill(*names)
        return hit

    return fault


def kill_again(*names: str, pause_s: float) -> Fault:
    """The same twice."""

    def fault(world: World, _: Load) -> Sequence[str] | None:
        count = len(world.victims(names[0]))
        world.kill(*names)
        time.sleep(pause_s)
        eventually(lambda: len(world.victims(names[0])) == count, "there is one to kill again")
        world.kill(*names)
        return None

    return fault


def kill_one_after_the_other(*names: str, pause_s: float) -> Fault:
    """Each a moment after the one before."""

    def fault(world: World, _: Load) -> Sequence[str] | None:
        victims = {name: world.victims(name) for name in names}
        for name in names:
            for process in victims[name]:
                process.kill()
            time.sleep(pause_s)
        return None

    return fault


def term(*names: str) -> Fault:
    """SIGTERM; over when they have ended."""

    def fault(world: World, _: Load) -> Sequence[str] | None:
        hit = world.held_by(*names) if set(names) <= _OWNERS else None
        _, alive = psutil.wait_procs(world.signal(signal.SIGTERM, *names), timeout=30)
        assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE], "SIGTERM ends them"
        return hit

    return fault


def stop(*names: str, for_s: float) -> Fault:
    """SIGSTOP, and SIGCONT later."""

    def fault(world: World, _: Load) -> Sequence[str] | None:
        stopped = world.signal(signal.SIGSTOP, *names)
        try:
            time.sleep(for_s)
        finally:
            for process in stopped:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGCONT)
        return None

    return fault


def kill_while_stopped(killed: str, stopped: str, *, for_s: float) -> Fault:
    """One is stopped; another dies meanwhile."""
    pause = stop(stopped, for_s=for_s)

    def fault(world: World, load: Load) -> Sequence[str] | None:
        world.kill(killed)
        return pause(world, load)

    return fault


def kill_everything(world: World, _: Load) -> Sequence[str] | None:
    """The whole machine dies, and comes back."""
    for members in world.processes().values():
        for process in members:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
    world.wait_for_redis()
    return None
