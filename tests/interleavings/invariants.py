"""What must hold when all has come to rest, whatever went wrong before."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from gateway.jobs.events import Event, EventType
from gateway.jobs.indexes import YOUNG_MS
from gateway.jobs.journal import fold, num_choices
from gateway.jobs.record import Job, JobState
from gateway.jobs.store import JobStore
from gateway.scheduling.lines import OFFER_MS
from gateway.store import keys
from tests.interleavings.client import Client
from tests.interleavings.stage import KEYS, SLICE_S, Facts
from tests.interleavings.wire import WIRE
from tests.interleavings.world import World
from workers.engines.fake import fake_token

#: For so long a world may need to come to rest.
REST_S, PATIENCE_S = 50, 8
#: Deaths of engines, and of workers before a job began, that end it.
MAX_DEATHS = 3


def come_to_rest(world: World) -> None:
    """Heal everything, and let all go on until nothing is left to do."""
    WIRE.heal()
    world.server.refuse_writes("")
    for process in (*world.workers, *world.keepers, world.web):
        process.frozen = False
    passed = False
    for second in range(REST_S):
        world.elapse(SLICE_S)
        for number in (0, 1) * 4:
            world.take(number)
            world.step(6 + number)
        if not world.server.left() and not any(worker.journaler.held for worker in world.workers):
            break
        if second >= PATIENCE_S and not passed and world.server.left() == 2:
            world.server.pass_time(YOUNG_MS / 1000)  # entries of jobs that were not made are young for long
            passed = True
    while second < REST_S and not all(client.watcher.ended for client in world.clients):
        second += 1
        world.elapse(SLICE_S)
    world.elapse(OFFER_MS / 1000 + SLICE_S)  # replicas ask when the last offers have ended


def verify(world: World) -> int:
    """Returns how often jobs have given their slots to others. Raises: AssertionError."""
    store = world.web.store
    world.check()
    assert not world.server.left(), _leftovers(world)
    assert not (left := world.lines.left()), "; ".join(left)
    there = world.server.records()
    for job_id in sorted(there | world.facts.keys()):
        facts = world.facts[job_id]
        if job_id not in there:
            assert not facts.accepted or facts.may_be_gone, f"{job_id} was lost: {facts}"
            assert not world.server.redis.exists(*keys.of_job(job_id)), f"{job_id} is half there"
    jobs = [job for job in store.read_many(sorted(there)) if job]
    journals = {job.id: store.journals.read(job.id) for job in jobs}
    for job in jobs:
        facts = world.facts[job.id]
        _verify_end(job, facts, journals[job.id])
        _verify_text(job, journals[job.id])
    by_id = {job.id: job for job in jobs}
    for client in world.clients:
        _verify_client(client, by_id.get(client.job_id), journals.get(client.job_id, []), world)
    open_clients = sum(not client.watcher.ended for client in world.clients)
    assert open_clients == 0, f"{open_clients} clients wait for ever"
    for key in map(str, world.server.redis.keys("hr:{*")):
        assert world.server.redis.pttl(key) > 0, f"{key} has no TTL"
    _verify_ledger(store, jobs)
    most = max((job.preemptions for job in jobs), default=0)
    assert most <= world.around.settings.max_preemptions, f"a job was preempted {most} times"
    return sum(job.preemptions for job in jobs)


def oracle(job: Job, index: int, count: int) -> list[int]:
    """The first tokens of a choice."""
    return [fake_token(f"{job.id}/{index}", i) for i in range(count)]


def text_of(ids: Sequence[int]) -> str:
    """What FakeTokenizer makes of them."""
    return "".join(f" w{i}" for i in ids)


def _verify_end(job: Job, facts: Facts, journal: Sequence[Event]) -> None:
    assert job.state.ended, f"{job.id} is {job.state}"
    ends = [event for event in journal if event.type.terminal]
    assert len(ends) == 1 and ends[0] is journal[-1], f"{job.id} has ends {ends}"
    assert ends[0].type.value == job.state.value, f"{job.id} is {job.state}, its journal says {ends[0].type}"
    if job.state is JobState.CANCELLED:
        assert facts.may_be_cancelled or not facts.accepted, (
            f"{job.id} was cancelled though its client was there: {ends[0]}"
        )
    if job.state is JobState.FAILED:
        reason = ends[0].body["error"]["reason"]
        crashed = facts.crashes + facts.losses >= MAX_DEATHS
        allowed = {"invalid_request": facts.may_be_refused, "engine_crashed": crashed}
        assert allowed.get(reason), f"{job.id} failed innocently: {ends[0]}, {facts}"


def _verify_text(job: Job, journal: Sequence[Event]) -> None:
    compacted = any(event.type is EventType.SNAPSHOT for event in journal)
    whole = int(job.request["max_tokens"])
    for index, choice in enumerate(fold(journal, num_choices=num_choices(job))):
        words = choice.text.split()
        ids = oracle(job, index, len(words))
        assert choice.text == text_of(ids), f"{job.id}/{index}: {choice.text!r} is not {text_of(ids)!r}"
        assert compacted or choice.token_ids == ids, f"{job.id}/{index}: {choice.token_ids} are not {ids}"
        assert len(ids) <= whole, f"{job.id}/{index} has {len(ids)} tokens of {whole}"
        if job.state is JobState.DONE:
            assert len(ids) == whole, f"{job.id}/{index} is done with {len(ids)} tokens of {whole}"
            assert choice.finish_reason == "length"


def _verify_client(client: Client, job: Job | None, journal: Sequence[Event], world: World) -> None:
    if client.expired:
        # What a power cut took may have been asked for again, with the same idempotency key.
        asked_again = world.jobs.count(client.job_id) > 1
        facts = world.facts[client.job_id]
        gone = facts.may_be_gone and not job
        assert gone or facts.may_expire or asked_again, f"{client.job_id} is told to have expired"
        return
    if job is None or client.end is None:
        return
    if client.kept[-1] not in journal and client.run_id != WIRE.run_id:
        _verify_early_end(client, job)
        return
    for index, choice in enumerate(fold(journal, num_choices=num_choices(job))):
        seen = client.text.get(index, "")
        assert seen == choice.text, f"{job.id}/{index}: the client has {seen!r}, the journal {choice.text!r}"
    held = {event.seq: event for event in journal}
    if not any(event.type is EventType.SNAPSHOT for event in journal):
        for event in client.kept:
            assert held.get(event.seq) == event, f"{job.id}: the client has {event}, the journal {held.get(event.seq)}"


def _verify_early_end(client: Client, job: Job) -> None:
    """A power cut took the end that the client was told, and the job has ended again: what it has must be right."""
    for index, text in client.text.items():
        ids = oracle(job, index, len(text.split()))
        assert text == text_of(ids), f"{job.id}/{index}: the client has {text!r}, not {text_of(ids)!r}"


def _verify_ledger(store: JobStore, jobs: Sequence[Job]) -> None:
    made = [datetime.fromtimestamp(job.created_at / 1000, UTC) for job in jobs]
    if not made:
        return
    rows = store.ledger.report(
        [key.id for key in KEYS], start=min(made), end=datetime.fromtimestamp(max(made).timestamp() + 1, UTC)
    )
    count, used = sum(row.jobs for row in rows), sum(row.total_tokens for row in rows)
    tokens = sum(job.usage.get("total_tokens", 0) for job in jobs)
    assert (count, used) == (len(jobs), tokens), (
        f"the ledger has {count} jobs, {used} tokens; not {len(jobs)}, {tokens}"
    )


def _leftovers(world: World) -> str:
    redis = world.server.redis
    running, queued = redis.zrange("hr:running", 0, -1), redis.keys("hr:queued:*")
    unsettled = {key: redis.smembers(key) for key in redis.keys("hr:open:*")}
    states = {i: redis.hmget(f"hr:{{{i}}}", "state", "owner", "crashes") for i in sorted(world.server.records())}
    return f"left behind: running {running}, {queued}, unsettled {unsettled}; jobs: {states}"
