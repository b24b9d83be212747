"""Scheduling, for the machine: jobs a second against another checkout, several replicas, a long queue, and how true
its estimates are.
"""

from __future__ import annotations

import datetime
import statistics
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from gateway.jobs.record import Job, JobState, new_job_id
from tests.bench.checkout import checkouts
from tests.bench.loaded_stack import LoadedStack, streamed, visits
from tests.bench.server import Helper
from tests.bench.visits import Client, tokens_per_s
from tests.bench.workload import percentile
from tests.stack import KEY, Stack

PATH = "/models/fake/chat/completions"
#: Clients of one-token jobs.
CLIENTS = 32
#: A replica of the fake engine that runs few sequences, slowly: the processors have time for four of them.
SLOTS, STEP_S, REPLICAS = 8, 0.05, 4
#: Background jobs whose estimates are compared with when they began; how often they are looked at, in seconds.
ESTIMATED, LOOK_S = 120, 1.0
#: Where a job in `GET /jobs` says when it will begin, in seconds.
ETA = "eta_s"


def one_token_jobs(load: Helper, against: Path | None, *, quick: bool) -> dict[str, Any]:
    """Jobs a second of one token each, of this checkout and of another, in turns."""
    rounds, hold_s = (4, 2.0) if quick else (8, 3.0)
    rates: dict[str, list[float]] = {}
    with checkouts(against, log_level="warning", queue_limit=5_000) as servers:
        for turn in range(rounds + 1):
            for name, server in list(servers.items())[:: 1 if turn % 2 else -1]:
                clients = [Client(0, server.key, streamed(f"x{i}", 1)) for i in range(CLIENTS)]
                seen = visits(load, server.port, PATH, clients, hold_s + 10, hold=CLIENTS, hold_s=hold_s)
                if turn:  # the first turn warms up
                    rates.setdefault(name, []).append(
                        sum((visit.ended_s or hold_s) < hold_s for visit in seen) / hold_s
                    )
    found: dict[str, Any] = {f"{name}_jobs_per_s": statistics.median(each) for name, each in rates.items()}
    if against:
        pairs = zip(rates["this"], rates["other"], strict=True)
        found["ratio"] = statistics.median(ours / theirs for ours, theirs in pairs)
    return found


def replicas(stack: Stack, load: Helper, *, quick: bool) -> dict[str, Any]:
    """Tokens a second of one replica, two, three and four, on a device each, and what each brings of the first's."""
    hold_s = 6.0 if quick else 8.0
    rates: list[float] = []
    for count in range(1, REPLICAS + 1):
        if count > 1:
            device = replace(stack.settings, device=f"cpu{count - 1}")
            stack.put("fake", {"step_s": STEP_S}, device)
            stack.start(f"agent-{count}", settings=device)
            stack.wait_active(count)
        clients = [Client(0, KEY, streamed(f"x{i}", 12 + i % 9)) for i in range(90)]
        port, crowd = stack.settings.http_port, 2 * SLOTS * count
        seen = visits(load, port, PATH, clients, hold_s + 20, hold=crowd, hold_s=hold_s)
        rates.append(tokens_per_s(seen, 2, hold_s))
    efficiency = [rate / (rates[0] * count) for count, rate in enumerate(rates, start=1)]
    return {
        "tokens_per_s": rates,
        "of_what_engines_can": [rate * STEP_S / SLOTS / count for count, rate in enumerate(rates, start=1)],
        "efficiency": efficiency,
        "worst_efficiency": min(efficiency),
    }


def estimates(bench: LoadedStack) -> dict[str, Any]:
    """How far the estimated waits in `GET /jobs` are from those that came."""
    predicted: list[tuple[str, float, float]] = []
    deadline = time.monotonic() + 90
    with bench.key("background") as key, bench.stack.client(key) as client:
        ids = bench.background(client, ESTIMATED, 32)
        while time.monotonic() < deadline and (waiting := jobs_of(client, "pending")):
            now = time.time()
            predicted += [(job["job_id"], now, job[ETA]) for job in waiting.values() if job.get(ETA) is not None]
            time.sleep(LOOK_S)
        began = {name: moment(job["started_at"]) for name, job in jobs_of(client).items() if job["started_at"]}
    pairs = [(eta_s, began[name] - asked) for name, asked, eta_s in predicted if name in began]
    errors = [abs(eta_s - wait_s) for eta_s, wait_s in pairs]
    return {
        "jobs": len(ids),
        "began": len(began),
        "estimates": len(pairs),
        "wait_p50_s": percentile([wait_s for _, wait_s in pairs], 0.5) if pairs else None,
        "error_p50_s": percentile(errors, 0.5) if pairs else None,
        "error_p90_s": percentile(errors, 0.9) if pairs else None,
        "error_share": sum(errors) / sum(wait_s for _, wait_s in pairs) if pairs else None,
    }


def jobs_of(client: Any, status: str = "") -> Mapping[str, Mapping[str, Any]]:
    """The key's jobs in the list, by id."""
    query = {"limit": 200} | ({"status": status} if status else {})
    listed = client.get("/jobs", params=query).raise_for_status().json()["data"]["jobs"]
    return {job["job_id"]: job for job in listed}


def moment(text: str) -> float:
    """Seconds since the epoch of a time in ISO 8601."""
    return datetime.datetime.fromisoformat(text).timestamp()


def keeper(stack: Stack, *, quick: bool) -> dict[str, Any]:
    """How long a round of the keeper takes, by what it says itself, without and with a long queue."""
    empty = rounds_ms(stack, 5)
    count, began = 20_000 if quick else 100_000, time.monotonic()
    for job in waiting_jobs(count):
        stack.store.create(job, ttl_ms=3_600_000)
    filled_s = time.monotonic() - began
    process = psutil.Process(stack.processes["keeper"].pid)
    before, began = process.cpu_times(), time.monotonic()
    long = rounds_ms(stack, 10 if quick else 15)
    after, seconds = process.cpu_times(), time.monotonic() - began
    return {
        "waiting": count,
        "filled_per_s": count / filled_s,
        "empty_round_p50_ms": percentile(empty, 0.5),
        "round_p50_ms": percentile(long, 0.5),
        "round_max_ms": max(long),
        "keeper_cpu": (after.user + after.system - before.user - before.system) / seconds,
    }


def waiting_jobs(count: int) -> Iterator[Job]:
    """Background jobs of a key that nobody has."""
    request = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 10_000}
    for _ in range(count):
        yield Job(new_job_id("chat"), JobState.QUEUED, "chat", "fake", "bench", request, background=True)


def rounds_ms(stack: Stack, seconds: float) -> list[float]:
    """What the keeper says of its last round, looked at twice in each of its pauses."""
    found: list[float] = []
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if state := stack.registry.keeper():
            found.append(1000 * state.round_s)
        time.sleep(0.5)
    return found
