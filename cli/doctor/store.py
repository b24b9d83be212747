"""Checks of Redis: version, settings, persistence, memory."""

from __future__ import annotations

import time
from collections.abc import Iterable

from cli.doctor.checks import Check, Finding, Installed, ok, problem, warning
from gateway.inference.service import MEMORY_LIMIT
from gateway.store.durability import durability
from gateway.store.installation import REMEDY, Installation

#: The oldest supported version.
VERSION = 7
#: Used share of Redis' memory, or of its connections, from which there is a warning.
FULL = 0.6
#: Round trips that are measured, and what they may take.
PINGS, SLOW_S = 21, 0.02
#: How much clocks may differ: times in answers are Redis', those in logs the hosts'.
CLOCK_S = 2.0


def version(installed: Installed) -> Iterable[Finding]:
    """Old servers lack commands."""
    found = str(installed.redis.info("server")["redis_version"])
    if int(found.split(".", maxsplit=1)[0]) < VERSION:
        yield problem(f"Redis {found}", f"Headrace needs Redis {VERSION} or later.")
    else:
        yield ok(f"Redis {found}")


def eviction(installed: Installed) -> Iterable[Finding]:
    """A Redis that evicts loses jobs."""
    found = durability(installed.redis)
    if found.evicts:
        remedy = "redis-cli CONFIG SET maxmemory-policy noeviction, and in its configuration."
        yield problem(f"maxmemory-policy is {found.policy}: Redis may drop jobs", remedy)
    else:
        yield ok("nothing is evicted")


def append_only(installed: Installed) -> Iterable[Finding]:
    """Without an append-only file a restart of Redis loses all jobs."""
    found = durability(installed.redis)
    if not found.append_only:
        remedy = "redis-cli CONFIG SET appendonly yes, and in its configuration."
        yield problem("the append-only file is off: a restart of Redis loses jobs", remedy)
        return
    if found.appendfsync == "no":
        yield warning("appendfsync is no: a power cut may lose half a minute", "Set appendfsync to everysec or always.")
    else:
        yield ok(f"on, appendfsync {found.appendfsync or 'is unknown'}")


def persistence(installed: Installed) -> Iterable[Finding]:
    """Whether the last writes to the disk succeeded."""
    info = installed.redis.info("persistence")
    states = ("aof_last_write_status", "aof_last_bgrewrite_status", "rdb_last_bgsave_status")
    failed = [name for name in states if info.get(name, "ok") != "ok"]
    if info.get("loading"):
        yield problem("Redis still reads its file", "Wait.")
    elif failed:
        yield problem(f"{', '.join(failed)}: failed", "Look at the disk of Redis and at its log.")
    elif delayed := int(info.get("aof_delayed_fsync", 0)):
        yield warning(f"the disk was too slow for {delayed} syncs since Redis began", "Give Redis a faster disk.")
    else:
        yield ok("the last writes have worked")


def memory(installed: Installed) -> Iterable[Finding]:
    """Above a share of its memory, new jobs are refused."""
    info = installed.redis.info("memory")
    used, limit = int(info["used_memory"]), int(info.get("maxmemory") or 0)
    if not limit:
        remedy = "Set its maxmemory to half of the machine's memory, with maxmemory-policy noeviction: docs/redis.md."
        yield warning(f"{used / 2**20:.0f} MiB, without a maxmemory: it grows until the kernel ends it", remedy)
        return
    share = used / limit
    found = f"{used / 2**20:.0f} of {limit / 2**20:.0f} MiB, {share:.0%} of what it may use"
    how = "maxmemory" if installed.settings.redis_url else "HEADRACE_REDIS_MEMORY_BYTES"
    remedy = f"Raise {how}, or let jobs be kept for less long (HEADRACE_JOB_TTL_S, HEADRACE_BACKGROUND_TTL_S)."
    if share > MEMORY_LIMIT:
        yield problem(f"{found}: new jobs are refused", remedy)
    elif share > FULL:
        yield warning(found, remedy)
    else:
        yield ok(found)


def round_trip(installed: Installed) -> Iterable[Finding]:
    """A request takes several; the first of these may have to connect."""
    times = []
    for _ in range(PINGS):
        began = time.perf_counter()
        installed.redis.ping()
        times.append(time.perf_counter() - began)
    median_s = sorted(times)[PINGS // 2]
    found = f"{1000 * median_s:.2f} ms"
    if median_s > SLOW_S:
        remedy = "Bring this machine and Redis closer together, or see what keeps Redis busy: redis-cli SLOWLOG GET."
        yield warning(f"{found}: every token waits for one or more", remedy)
    else:
        yield ok(found)


def connections(installed: Installed) -> Iterable[Finding]:
    """Clients beyond the limit of connections are refused."""
    info = installed.redis.info("clients")
    used, limit = int(info["connected_clients"]), int(info.get("maxclients", 10_000))
    if used > FULL * limit:
        yield warning(f"{used} of {limit} connections", "Raise maxclients of Redis.")
    else:
        yield ok(f"{used} of {limit}")


def clocks(installed: Installed) -> Iterable[Finding]:
    """This host's clock against Redis'."""
    began = time.time()
    theirs = installed.store.clock.now_ms() / 1000
    apart_s = theirs - (began + time.time()) / 2
    if abs(apart_s) > CLOCK_S:
        found = f"Redis' clock is {abs(apart_s):.1f} s {'ahead of' if apart_s > 0 else 'behind'} this host's"
        yield warning(found, "Let NTP set both. Jobs go by Redis' clock, logs and the expiry of keys by the hosts'.")
    else:
        yield ok(f"{abs(apart_s):.2f} s apart")


def installation(installed: Installed) -> Iterable[Finding]:
    """Whether Redis has the data of this data folder."""
    here = Installation(installed.redis, installed.settings.data_dir)
    if here.check():
        yield problem("Redis has lost its data", REMEDY)
    else:
        yield ok("Redis holds the data of this installation")


CHECKS: tuple[Check, ...] = (
    *(version, eviction, append_only, persistence),
    *(memory, round_trip, connections, clocks, installation),
)
