"""Faults of Redis: away, paused, full, read only, forgetful, unreachable in all the ways of a network."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import redis

from gateway.store.embedded import server_command
from tests.faults.matrix.mix import Load
from tests.faults.matrix.rig import World, as_root
from tests.faults.matrix.row import Fault
from tests.stack import eventually


def away(for_s: float) -> Fault:
    """Killed, and started again later."""

    def fault(world: World, _: Load) -> Sequence[str] | None:
        with world.without_redis():
            time.sleep(for_s)
        return None

    return fault


def paused(for_s: float, *, writes_only: bool) -> Fault:
    """CLIENT PAUSE."""

    def fault(world: World, _: Load) -> Sequence[str] | None:
        world.stack.redis.client_pause(int(for_s * 1000), all=not writes_only)
        time.sleep(for_s)
        return None

    return fault


def configured(name: str, bad: str, good: str, *, for_s: float) -> Fault:
    """A setting that makes Redis refuse writes."""

    def fault(world: World, _: Load) -> Sequence[str] | None:
        world.stack.redis.config_set(name, bad)
        try:
            time.sleep(for_s)
        finally:
            world.stack.redis.config_set(name, good)
        return None

    return fault


def read_only(for_s: float) -> Fault:
    """It takes itself for the replica of a server that is not there."""

    def fault(world: World, _: Load) -> Sequence[str] | None:
        world.stack.redis.replicaof("127.0.0.1", 1)
        try:
            time.sleep(for_s)
        finally:
            world.stack.redis.replicaof("NO", "ONE")
        return None

    return fault


def again_and_again(act: Callable[[redis.Redis], None], *, for_s: float, every_s: float) -> Fault:
    """A blow, over and over."""

    def fault(world: World, _: Load) -> Sequence[str] | None:
        until = time.monotonic() + for_s
        while time.monotonic() < until:
            with contextlib.suppress(redis.exceptions.RedisError):
                act(world.stack.redis)
            time.sleep(every_s)
        return None

    return fault


def flush_scripts(client: redis.Redis) -> None:
    """As a server that was restarted."""
    client.script_flush()


def cut_connections(client: redis.Redis) -> None:
    """All but ours."""
    for kind in ("normal", "pubsub"):
        client.client_kill_filter(_type=kind, skipme=True)


def flush_and_cut(client: redis.Redis) -> None:
    """The scripts are gone, and while they are loaded again the connection goes too."""
    client.script_flush()
    time.sleep(random.random() * 0.012)
    client.client_kill_filter(_type="normal", skipme=True)


def without_its_last_moments(world: World, _: Load) -> Sequence[str] | None:
    """As after a power cut: what was written in the last second is missing."""
    folder = world.stack.folder / "redis" / "appendonlydir"
    synced = {aof: aof.stat().st_size for aof in folder.glob("*.incr.aof")}
    began = time.monotonic()
    time.sleep(1)
    with world.without_redis():
        world.power_cuts.append((began, time.monotonic()))
        aof = max(folder.glob("*.incr.aof"))
        os.truncate(aof, synced.get(aof, 0))
    return None


def empty(world: World, _: Load) -> Sequence[str] | None:
    """It comes back without its data."""
    with world.without_redis():
        shutil.rmtree(world.stack.folder / "redis")
        (world.stack.folder / "redis").mkdir()
    return None


def disk_full(for_s: float) -> Fault:
    """Its folder is a small file system that has no room left."""

    def fault(world: World, _: Load) -> Sequence[str] | None:
        ballast = world.stack.folder / "redis" / "ballast"
        with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(b"x" * 4096)
        time.sleep(for_s)
        ballast.unlink()
        return None

    return fault


# -- through the proxy


@contextlib.contextmanager
def _proxy_set(world: World, **values: float) -> Iterator[None]:
    assert world.stack.proxy
    for name, value in values.items():
        setattr(world.stack.proxy, name, value)
    try:
        yield
    finally:
        for name in values:
            setattr(world.stack.proxy, name, 0)


def proxied(*, for_s: float, **values: float) -> Fault:
    """The proxy delays, or cuts, for a while."""

    def fault(world: World, _: Load) -> Sequence[str] | None:
        with _proxy_set(world, **values):
            time.sleep(for_s)
        return None

    return fault


def half_open(for_s: float, *, then_cut: bool) -> Fault:
    """Nothing comes through, and nobody says so; then it all comes at once, or the connections are gone."""

    def fault(world: World, _: Load) -> Sequence[str] | None:
        assert world.stack.proxy
        world.stack.proxy.stall()
        time.sleep(for_s)
        if then_cut:
            world.stack.proxy.cut()
            time.sleep(0.1)
        world.stack.proxy.flow()
        return None

    return fault


def failed_over(world: World, _: Load) -> Sequence[str] | None:
    """The server dies; its replica takes over, where all connections lead from now on."""
    stack = world.stack
    assert stack.proxy
    folder, socket = stack.folder / "redis2", stack.folder / "redis2.sock"
    folder.mkdir()
    port = stack.redis.config_get("port")["port"]
    stack.start("redis-2", [*server_command(socket, folder), "--replicaof", "127.0.0.1", str(port)])
    with redis.Redis(unix_socket_path=str(socket), decode_responses=True) as replica:
        eventually(lambda: _in_sync(replica), "the replica is in sync")
        time.sleep(1)
        stack.away.add("redis")
        world.kill("redis")
        replica.replicaof("NO", "ONE")
    stack.proxy.lead_to(str(socket))
    return None


def _in_sync(replica: redis.Redis) -> bool:
    try:
        return str(replica.info("replication").get("master_link_status")) == "up"
    except redis.exceptions.RedisError:
        return False


def small_disk(folder: Path) -> None:
    """Put a small file system under Redis' folder."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(folder / "redis")], check=True)


def no_small_disk(folder: Path) -> None:
    """Take it away."""
    subprocess.run(["umount", "-l", str(folder / "redis")], check=False)


def may_not_mount() -> str:
    """Why there can be no small disk; empty if there can."""
    if not as_root():
        return "mounting a small file system needs root"
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=False, capture_output=True
        )
        subprocess.run(["umount", folder], check=False, capture_output=True)
    return "" if done.returncode == 0 else "a small file system can't be mounted here"
