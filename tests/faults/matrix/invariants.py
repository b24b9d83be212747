"""What must hold after any fault, from the client's, Redis' and the operating system's side."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import psutil

from gateway.jobs.events import Event, EventType
from gateway.jobs.journal import fold, num_indexes
from gateway.jobs.record import Job, JobState
from gateway.process.locks import lock_holder
from gateway.store import keys
from tests.faults.matrix.load import Client
from tests.faults.matrix.mix import Load
from tests.faults.matrix.report import Outcome
from tests.faults.matrix.rig import Census, World

#: What is cleaned up by itself may take so long: a lease, a look of the agent, a round of the keeper.
SETTLES_S = 25.0
#: Where jobs wait.
LINES = ("first", "quarantined", "interactive", "background", "interactive:keys", "background:keys", "offered")
#: Redis writes up to so much later when its disk is busy.
SLACK_S = 1.0
#: A process may hold so many descriptors more than at the start: pools of connections grow with what is asked at once.
MORE_DESCRIPTORS = 100


def check(load: Load, outcome: Outcome, *, without: Sequence[Client] = ()) -> None:
    """Look at everything that the row has left, and count what is wrong. `without` are those who were promised less."""
    check_clients(load, outcome, without)
    jobs = _records(load)
    _journals(load, jobs, outcome, without)
    _ledger(load, jobs, outcome, without)
    _left_behind(load.world, load, outcome)


def unlucky(load: Load) -> list[Client]:
    """Whose job was accepted in the last moments before a power cut, and is gone: no worker lived that had it."""
    cut = [
        client
        for client in load.clients
        if client.job_id
        and any(
            began - SLACK_S < client.accepted_at and client.asked_at < ended for began, ended in load.world.power_cuts
        )
    ]
    records = load.world.stack.store.read_many([client.job_id for client in cut])
    return [client for client, record in zip(cut, records, strict=True) if record is None]


# -- what clients got


def check_clients(load: Load, outcome: Outcome, without: Sequence[Client] = ()) -> None:
    """Everybody has got what was asked for, each word once."""
    outcome.streams = len(load.streams)
    outcome.jobs = len(load.clients) - outcome.streams
    for client in [client for client in load.clients if client not in without]:
        if not client.ended:
            outcome.not_ended += 1
            _note(outcome, client, f"has not ended: {len(client.times)} pieces, {client.troubles[-3:]}")
        elif client.error:
            outcome.innocent_failures += 1
            _note(outcome, client, f"failed: {client.error}, {client.troubles[-3:]}")
        elif client.finishes:
            _compare(outcome, client, "client", dict(client.texts))
        if client.seqs != sorted(set(client.seqs)) and not client.rewound:
            outcome.duplicated += 1
            _note(outcome, client, "got an event twice")


def _compare(outcome: Outcome, client: Client, where: str, texts: dict[int, str]) -> None:
    """A text against the oracle, word by word."""
    for choice in range(client.n):
        got, wanted = texts.get(choice, ""), client.oracle(choice)
        if got == wanted:
            continue
        have, want = Counter(got.split(" ")), Counter(wanted.split(" "))
        lost, twice = sum((want - have).values()), sum((have - want).values())
        outcome.lost += lost or not twice  # words in another order are lost, too
        outcome.duplicated += twice
        _note(
            outcome, client, f"{where}, choice {choice}: {lost} words missing, {twice} too many, {client.troubles[-3:]}"
        )


# -- what Redis holds


def _records(load: Load) -> list[Job]:
    """All jobs that were made for the row's key, also those that no client knows of."""
    store = load.world.stack.store
    ids = set(load.world.stack.redis.zrange(keys.owned(load.key_id), 0, -1))
    ids |= {client.job_id for client in load.clients if client.job_id}
    return [job for job in store.read_many(sorted(ids)) if job]


def _journals(load: Load, jobs: Sequence[Job], outcome: Outcome, without: Sequence[Client]) -> None:
    store = load.world.stack.store
    clients = {client.job_id: client for client in load.clients if client.job_id and client not in without}
    for job_id in clients.keys() - {job.id for job in jobs}:
        outcome.not_ended += 1
        _note(outcome, clients[job_id], "its record is gone")
    for job in jobs:
        events = store.journals.read(job.id)
        ends = sum(event.type.terminal for event in events)
        if not job.state.ended or ends != 1 or not events[-1].type.terminal:
            outcome.not_ended += 1
            outcome.notes.append(f"job {job.id} is {job.state}, with {ends} terminal events")
            continue
        compact = any(event.type is EventType.SNAPSHOT for event in events)
        if not compact and [event.seq for event in events] != list(range(1, len(events) + 1)):
            outcome.lost += 1
            outcome.notes.append(f"job {job.id}: its journal has gaps")
        client = clients.get(job.id)
        if client and client.finishes and job.state is JobState.DONE:
            _compare(outcome, client, "journal", _texts(events))


def _texts(events: Sequence[Event]) -> dict[int, str]:
    body = [event for event in events if not event.type.terminal]
    return {i: choice.text for i, choice in enumerate(fold(body, num_choices=num_indexes(body)))}


def _ledger(load: Load, jobs: Sequence[Job], outcome: Outcome, without: Sequence[Client]) -> None:
    """GET /usage against the records. It may have counted jobs whose records are gone."""
    wanted = {
        "jobs": sum(job.kind != "deployment" and job.key_id == load.key_id for job in jobs),
        **{name: sum(_used(job, load, name) for job in jobs) for name in ("prompt_tokens", "completion_tokens")},
    }
    got: dict[str, Any] = {}

    def equal() -> bool:
        nonlocal got
        with load.world.stack.client() as client:
            found = client.get("/usage", params=_query(load)).json()["data"]["total"]
        got = {name: found[name] for name in wanted}
        return got == wanted or 0 < got["jobs"] - wanted["jobs"] <= len(without)

    if not _in_time(equal, SETTLES_S):
        outcome.left_behind += 1
        outcome.notes.append(f"the ledger says {got}, the records {wanted}")


def _query(load: Load) -> dict[str, str]:
    """All of a key's ledger, also what was made by a clock that was ahead."""
    return {"key": load.key_id, "to": (datetime.now(UTC) + timedelta(days=1)).isoformat(timespec="seconds")}


def _used(job: Job, load: Load, name: str) -> int:
    return int(job.usage.get(name, 0)) if job.key_id == load.key_id else 0


def _left_behind(world: World, load: Load, outcome: Outcome) -> None:
    found: dict[str, Any] = {}

    def nothing() -> bool:
        nonlocal found
        found = {name: value for name, value in {**_in_redis(world, load), **_in_system(world)}.items() if value}
        return not found

    if not _in_time(nothing, SETTLES_S):
        outcome.left_behind += len(found)
        outcome.notes.append(f"left behind: {found}")


def _in_redis(world: World, load: Load) -> dict[str, Any]:
    redis = world.stack.redis
    job_keys = list(redis.scan_iter("hr:{*", count=1000))
    pipe = redis.pipeline(transaction=False)
    for key in job_keys:
        pipe.ttl(key)
    hubs = list(redis.pubsub_channels("hr:hub:*"))
    return {
        "running": redis.zrange(keys.RUNNING, 0, -1),
        "lines": [i for line in LINES for name in redis.keys(f"hr:lines:*:{line}") for i in redis.zrange(name, 0, -1)],
        "queued": [i for name in redis.scan_iter("hr:queued:*") for i in redis.zrange(name, 0, -1)],
        "open": [i for name in redis.scan_iter("hr:open:*") for i in redis.smembers(name)],
        "without a time to live": [key for key, ttl in zip(job_keys, pipe.execute(), strict=True) if ttl == -1],
        "subscriptions": hubs[2:],  # the web process and the gRPC process have one each
        "slots": {
            r.replica_id: (r.sequences, r.held, r.background_held)
            for r in world.stack.registry.replicas()
            if r.sequences or r.held or r.background_held
        },
    }


def _in_system(world: World) -> dict[str, Any]:
    now = Census.of(world)
    processes = {
        role: f"{now.processes[role]}, not {world.first.processes[role]}"
        for role in now.processes | world.first.processes
        if now.processes[role] != world.first.processes[role]
    }
    descriptors = {
        role: f"{count}, first {world.first.descriptors.get(role)}"
        for role, count in now.descriptors.items()
        if count > world.first.descriptors.get(role, count) + MORE_DESCRIPTORS
    }
    locks = [path.stem for path in (world.stack.folder / "run").glob("*.lock") if not _held(world, path.stem)]
    return {"processes": processes, "descriptors": descriptors, "locks of the dead": locks}


def _held(world: World, name: str) -> bool:
    holder = lock_holder(world.stack.settings.data_dir, name)
    return holder is not None and psutil.pid_exists(holder.pid)


# -- times


def measure(load: Load, ended_at: float, hit: Sequence[str] | None, outcome: Outcome) -> None:
    """From the end of the fault to the next token of each stream that was hit, and that had more to come."""
    waits = sorted(
        min(after) - ended_at
        for client in load.streams
        if (hit is None or client.job_id in hit) and client.times and client.times[0] < ended_at
        if (after := [at for at in client.times if at > ended_at])
    )
    if waits:
        outcome.next_token_p50_s = round(waits[len(waits) // 2], 2)
        outcome.next_token_max_s = round(waits[-1], 2)
        outcome.late = sum(wait > outcome.late_s for wait in waits)


def _note(outcome: Outcome, client: Client, text: str) -> None:
    outcome.notes.append(f"{type(client).__name__} {client.model} {client.job_id or '(no job)'} {text}")


def _in_time(condition: Callable[[], bool], timeout_s: float) -> bool:
    until = time.monotonic() + timeout_s
    while True:
        try:
            if condition():
                return True
        except Exception:  # the system may still not answer
            if time.monotonic() > until:
                raise
        if time.monotonic() > until:
            return False
        time.sleep(0.3)
