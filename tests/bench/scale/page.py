"""The tables of docs/scaling.md: what `tests/bench/scale/` has measured, now and before it was made linear."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.made_parts import put

PAGE = Path(__file__).parents[3] / "docs" / "scaling.md"
#: The cluster in a second, and one request: what is measured, and what the page calls it.
SECONDS = {
    "replicas, a second": "all replicas, idle: heartbeats, asking for jobs",
    "replicas with jobs, a second": "the same with four quiet jobs each",
    "agents, a second": "the agents of all nodes",
    "keeper, a round": "the keeper, idle",
    "keeper with jobs, a round": "the keeper, with four jobs a replica",
    "hub, a renewal of its leases": "one process that streams two jobs a replica (every 2 s)",
}
REQUESTS = {
    "submit, the first in half a second": "a request, where nothing was read for half a second",
    "submit, the next": "a request, else",
    "ask, claim, begin two": "a replica takes two jobs",
    "a token of a job": "a token, written by itself",
    "GET /models/{id}": "`GET /models/{id}`",
    "GET /models/{id}, of one that nobody has loaded": "the same of a model that a request would load",
    "GET /models/{id}, of one that nobody has": "the same of a model whose files are nowhere",
    "GET /models": "`GET /models`",
    "GET /models/local": "`GET /models/local`",
    "GET /health/ready": "`GET /health/ready`",
    "plan a deployment": "plan a deployment on two devices",
    "a replica ends": "a replica ends",
}

Sizes = Mapping[str, Any]


def write(results: Mapping[str, Any], page: Path = PAGE) -> None:
    """Put the tables into the page, between their marks, if there is one."""
    if not results or not page.exists():
        return
    now, before = results["now"], results["before"]
    tables = {"seconds": table(SECONDS, now, before), "requests": table(REQUESTS, now, before)}
    tables |= {"memory": memory(now), "processes": processes(results["processes"])}
    for name, made in tables.items():
        put(page, name, made)


def table(rows: Mapping[str, str], now: Sizes, before: Sizes) -> str:
    """Commands, kilobytes, and milliseconds of Redis and of the process that asks."""
    sizes = list(now)
    heads = [f"{int(size):,}" for size in sizes]
    shown = [f"| replicas | {' | '.join(heads)} | {heads[-1]}, before |", "|---" * (len(sizes) + 2) + "|"]
    for what, name in rows.items():
        cells = [cell(found["costs"].get(what)) for found in [*now.values(), before[sizes[-1]]]]
        shown.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(shown) + "\n"


def cell(cost: Mapping[str, float] | None) -> str:
    """One figure of a table."""
    if cost is None:
        return ""
    kilobytes = (cost["sent"] + cost["received"]) / 1000
    return f"{cost['commands']:,.0f}; {kilobytes:,.0f} kB; {ms(cost['redis_ms'])} + {ms(cost['client_ms'])} ms"


def ms(value: float) -> str:
    """With as many digits as mean something."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def memory(now: Sizes) -> str:
    """What a replica, and what a node takes of Redis, at the largest size."""
    size, found = list(now.items())[-1]
    kinds, count = found["memory"], int(size)
    replica = sum(kinds.get(kind, 0) for kind in ("worker", "workers", "desired", "places", "lines", "held"))
    rows = {
        "a replica (heartbeat, spec, sets, line)": replica / count,
        "a node (heartbeat, what it knows of the sizes of models)": 10
        * sum(kinds.get(kind, 0) for kind in ("footprints", "devices", "nodes", "node"))
        / count,
        "a job that runs (record, journal, indexes)": found["job_bytes"]["open"],
        "a job of 128 tokens that has just ended": found["job_bytes"]["ended"],
        "the same a minute later": found["job_bytes"]["compacted"],
    }
    return "| | bytes |\n|---|---|\n" + "".join(f"| {name} | {value:,.0f} |\n" for name, value in rows.items())


def processes(found: Mapping[str, Mapping[str, float]]) -> str:
    """Connections, and commands a second, of each kind of process."""
    rows = (f"| {name} | {one['connections']:.0f} | {one['commands_per_s']:.0f} |" for name, one in found.items())
    return "| a process | connections | commands a second |\n|---|---|---|\n" + "\n".join(rows) + "\n"
