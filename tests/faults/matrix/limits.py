"""Faults of the machine's limits, and changes of the system itself under load."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import psutil

from tests.deployments import deploy, ended
from tests.faults.matrix.mix import Load
from tests.faults.matrix.rig import FAKE, World, limit_files
from tests.faults.matrix.row import Fault
from tests.stack import eventually


def no_descriptors(name: str, *, for_s: float, left: int = 0) -> Fault:
    """A process may open no file and no connection more."""

    def fault(world: World, _: Load) -> Sequence[str] | None:
        victims = world.victims(name)
        before = [limit_files(process, max(map(_highest, victims)) + 1 + left) for process in victims]
        try:
            time.sleep(for_s)
        finally:
            for process, limit in zip(victims, before, strict=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    limit_files(process, limit)
        return None

    return fault


def _highest(process: psutil.Process) -> int:
    return max(int(path.name) for path in Path(f"/proc/{process.pid}/fd").iterdir())


def rolling_update(*, kill: str = "") -> Fault:
    """The model that everybody asks is deployed anew: new replicas take the place of the old ones. A process may die
    in the middle.
    """

    def fault(world: World, _: Load) -> Sequence[str] | None:
        with world.stack.client() as client:
            before = {replica.incarnation for replica in world.stack.registry.replicas("fake")}
            begun = deploy(client, "fake", target_nodes=["n1.cpu0", "n1.cpu1"])
            if kill:
                time.sleep(0.5)
                world.kill(kill)
            done = ended(client, begun, 90)
        assert done["status"] == "completed", done
        eventually(
            lambda: not before & {replica.incarnation for replica in world.stack.registry.replicas("fake")},
            "the old replicas are gone",
            60,
        )
        return None

    return fault


def another_worker(world: World, _: Load) -> Sequence[str] | None:
    """A third device comes with a replica, takes its share, and goes again."""
    stack = world.stack
    third = replace(stack.settings, device="cpu2")
    stack.put("fake", FAKE, third)
    stack.start("agent-3", settings=third)
    eventually(lambda: len([r for r in stack.registry.replicas("fake") if r.status == "active"]) >= 3, "it serves", 60)
    time.sleep(1)
    replica = next(r for r in stack.registry.replicas("fake") if r.device == "cpu2")
    stack.away.add("agent-3")
    for pid in (stack.processes["agent-3"].pid, replica.pid):
        psutil.Process(pid).send_signal(signal.SIGTERM)
    psutil.wait_procs([psutil.Process(replica.pid)] if psutil.pid_exists(replica.pid) else [], timeout=30)
    stack.processes["agent-3"].wait(30)
    del stack.processes["agent-3"]
    for path in (stack.folder / "run").glob("*cpu2*.lock"):
        path.unlink()  # nobody is left there to do it
    return None
