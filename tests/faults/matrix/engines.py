"""Faults of engines: one request that brings its engine down must fail alone; long waits are no fault at all."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.faults.matrix.load import RestStream
from tests.faults.matrix.mix import Load
from tests.faults.matrix.rig import World
from tests.faults.matrix.row import Fault

MEMORY = Path("/sys/fs/cgroup/memory")
#: What an engine may take beyond what it has, where the kernel keeps watch.
ROOM_BYTES = 100 << 20


def poison(kind: str) -> Fault:
    """A request at which the engine misbehaves. It fails, whatever it is told; nobody else does."""

    def fault(world: World, load: Load) -> Sequence[str] | None:
        guilty = RestStream(world, load.key, tokens=40)
        guilty.prompt = f"{kind}-please"
        guilty.start().thread.join(60)
        assert guilty.ended, f"the request at which engines {kind} has not ended: {guilty.troubles}"
        assert guilty.error, "it has ended well"
        return None

    return fault


def out_of_memory(world: World, load: Load) -> Sequence[str] | None:
    """The engine of each replica has a little memory left, and one request asks for more: the kernel kills it."""
    groups = []
    for engine in world.victims("engines"):
        group = MEMORY / f"headrace-{engine.pid}"
        group.mkdir()
        groups.append(group)
        (group / "memory.limit_in_bytes").write_text(str(ROOM_BYTES))
        (group / "cgroup.procs").write_text(str(engine.pid))
    try:
        guilty = RestStream(world, load.key, tokens=40)
        guilty.prompt = "hog-please"
        guilty.start().thread.join(60)
        assert guilty.ended, "the request that takes all memory has not ended"
    finally:
        for group in groups:
            _dissolve(group)
    return None


def no_limits() -> str:
    """Why no memory can be limited here; empty if it can."""
    group = MEMORY / f"headrace-probe-{os.getpid()}"
    try:
        group.mkdir()
        group.rmdir()
    except OSError as error:
        return f"no memory cgroup can be made here: {error.strerror}"
    return ""


def _dissolve(group: Path) -> None:
    for pid in (group / "cgroup.procs").read_text().split():
        (MEMORY / "cgroup.procs").write_text(pid)
    deadline = time.monotonic() + 5
    while group.exists() and time.monotonic() < deadline:
        try:
            group.rmdir()
        except OSError:
            time.sleep(0.1)


def nothing(_: World, __: Load) -> Sequence[str] | None:
    """No fault: the row is about the load."""
    return None


def rest(for_s: float) -> Fault:
    """No fault for a while."""

    def fault(_: World, __: Load) -> Sequence[str] | None:
        time.sleep(for_s)
        return None

    return fault


def many_streams(count: int, tokens: int) -> Callable[[Load], None]:
    """So many streams more."""

    def also(load: Load) -> None:
        load.add(*(RestStream(load.world, load.key, tokens=tokens) for _ in range(count)))

    return also


def none_restarted(world: World, load: Load) -> None:
    """Waiting is no crash: every job was claimed once, or given back without blame."""
    jobs = world.stack.store.read_many([client.job_id for client in load.streams])
    found = [(job.id, job.attempts, job.crashes) for job in jobs if job and (job.attempts != 1 or job.crashes)]
    assert not found, f"{found}\n{world.stack.logs()}"
