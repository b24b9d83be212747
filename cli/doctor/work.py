"""Checks of the keeper, replicas, provider workers and jobs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta

from cli.doctor.canary import ask
from cli.doctor.checks import Check, Finding, Installed, ok, problem, warning
from gateway.access.api_keys import Credentials
from gateway.cluster.desired import Desired, SpecState
from gateway.jobs.cleanup import Strays
from gateway.process.version import own_version
from gateway.store import keys, unreadable
from workers.providers import NOT_INSTALLED, is_installed

#: If a round of the keeper takes longer, recovery is late.
ROUND_S = 2.0
#: The part of its lease behind which its heartbeat is late.
LATE = 0.75
#: Records read in one round trip, and journals read in all.
BATCH, JOURNALS = 500, 2_000
#: A job that moves between two indexes is in one of them after this time.
BETWEEN_S = 1.0


def keeper(installed: Installed) -> Iterable[Finding]:
    """Whether a keeper runs, and recovers lost jobs."""
    state = installed.registry.keeper()
    if state is None:
        yield problem("no keeper lives: jobs of dead workers are not recovered", "See 'headrace logs keeper'.")
        return
    lease_s = installed.settings.lease_s
    age_s = max(0.0, lease_s - max(0, installed.redis.pttl(keys.KEEPER)) / 1000)
    if age_s > LATE * lease_s:
        remedy = "Recovery stands still: see 'headrace logs keeper', and whether its machine is overloaded."
        yield warning(f"its last round is {age_s:.1f} s old, and {lease_s:g} s is when it counts as dead", remedy)
    elif state.round_s > ROUND_S:
        yield warning(f"a round takes {state.round_s:.1f} s", "Recovery is late by that: let fewer jobs wait at once.")
    elif not state.trusted:
        yield warning("it recovers nothing yet, since Redis was away or its clock has jumped", "Wait for some seconds.")
    else:
        yield ok(f"a round takes {state.round_s:.3f} s; the last one was {age_s:.1f} s ago")


def versions(installed: Installed) -> Iterable[Finding]:
    """Whether all machines run the same Headrace."""
    ours, devices = own_version(), installed.registry.devices()
    others = {device.name: device.version for device in devices if device.version and device.version != ours}
    if others:
        text = ", ".join(f"{name} runs {version}" for name, version in sorted(others.items()))
        yield warning(f"{text}; this is {ours}", "They work together while you update; bring all to one version.")
    else:
        yield ok(f"{ours} on {len({device.node for device in devices})} nodes")


def replicas(installed: Installed) -> Iterable[Finding]:
    """Whether the desired replicas are there, and answer."""
    living = {replica.replica_id: replica for replica in installed.registry.replicas()}
    specs = Desired(installed.redis).all()
    for one in specs:
        if one.state == SpecState.FAILED:
            why = one.failure.get("message", "")
            yield problem(f"{one.replica_id} has failed: {why}", one.failure.get("remedy", "Deploy it anew."))
        elif one.state == SpecState.RUNNING and one.replica_id not in living:
            yield problem(f"{one.replica_id} is desired, but not alive", "See 'headrace logs agent' on its machine.")
    for replica in living.values():
        if replica.health == "healthy":
            yield ask(installed, replica)
        else:
            log = f"See 'headrace logs model-{replica.replica_id}' on {replica.node}."
            yield problem(f"{replica.replica_id} is {replica.health}. {replica.message}".strip(), log)
    if not living and not specs:
        yield ok("nothing is deployed")


def providers(installed: Installed) -> Iterable[Finding]:
    """Whether a provider worker has the keys of remote models. No provider is called: that costs money."""
    workers = installed.registry.providers()
    served = {name for worker in workers for name in worker.credentials}
    used = {model.provider for model in installed.catalog if not model.local}
    if not workers and used:
        remedy = "Start one: 'headrace up'." if is_installed() else NOT_INSTALLED
        yield warning(f"no provider worker lives, so nothing of {', '.join(sorted(used))} is served", remedy)
    else:
        yield ok(f"with keys of {', '.join(sorted(served & used)) or 'no provider'}")


def jobs(installed: Installed) -> Iterable[Finding]:
    """Whether all jobs that have not ended are in an index, so that they are found."""
    walk = Strays(installed.store, mends=False)
    found = {job.id for job in walk.next_page()}
    while walk.goes_on:
        found |= {job.id for job in walk.next_page()}
    if found:
        time.sleep(BETWEEN_S)
        found = {job.id for job in walk.among(sorted(found))}
    if found:
        some = ", ".join(sorted(found)[:3])
        remedy = "A living keeper puts them back within a minute; if they stay, please report it."
        yield problem(f"{len(found)} jobs that have not ended are in no index: {some}", remedy)
    else:
        running = installed.redis.zcard(keys.RUNNING)
        yield ok(f"each that has not ended is in an index; {running} run")


def stored_data(installed: Installed) -> Iterable[Finding]:
    """Whether all values in Redis can be read. Others are left out, and harm nothing else."""
    client, store = installed.redis, installed.store
    registry = installed.registry
    looks: tuple[Callable[[], object], ...]
    looks = (registry.keeper, registry.devices, registry.providers, registry.replicas, Desired(client).all)
    for look in looks:
        look()
    key_ids = [key.id for key in Credentials(client).list()]
    now = datetime.now(UTC)
    store.ledger.report(key_ids, start=now - timedelta(days=1), end=now)
    prefix = len(keys.job("")) - 1
    job_ids = [name[prefix:-1] for name in client.scan_iter(keys.job("*"), count=BATCH)]
    for at in range(0, len(job_ids), BATCH):
        store.read_many(job_ids[at : at + BATCH])
    for job_id in job_ids[:JOURNALS]:
        with unreadable.leaving_out(f"The journal of job {job_id}"):
            store.journals.read(job_id)
    for found in unreadable.found():
        yield problem(found, "Make it anew, or restore it; what a newer version has written needs that version.")
    damaged = list(client.scan_iter(keys.damaged("*"), count=BATCH))
    if damaged:
        remedy = "These jobs have failed as unreadable. What Redis held of them stays there for a day."
        yield warning(f"{len(damaged)} records could not be read: {', '.join(sorted(damaged)[:3])}", remedy)
    if not unreadable.found() and not damaged:
        yield ok(f"all can be read: {len(job_ids)} jobs, {len(key_ids)} keys, and what workers say")


CHECKS: tuple[Check, ...] = (keeper, versions, replicas, providers, jobs, stored_data)
