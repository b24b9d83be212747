"""The job core over a real Redis: claims, fences, replays, gaps, ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest
import redis

from gateway.jobs.control import cancel, fail
from gateway.jobs.events import Append, Event
from gateway.jobs.record import RECORD_VERSION, Cause, Job, JobState, new_claim_id, new_job_id
from gateway.jobs.store import Ended, JobStore
from gateway.store import keys
from gateway.watching import watcher
from gateway.watching.hub import Hub
from gateway.watching.watcher import Watcher
from tests.stack import eventually
from workers.keeper.keeper import Keeper


@pytest.fixture
def store(redis_client: redis.Redis) -> JobStore:
    return JobStore(redis_client)


def make_job(store: JobStore, **kwargs: object) -> Job:
    job = Job(new_job_id("chat"), JobState.QUEUED, "chat", "fake", "key", {"messages": []}, **kwargs)  # type: ignore[arg-type]
    return store.create(job, ttl_ms=60_000).job


def claimed(store: JobStore, owner: str = "w1") -> Job:
    job = store.claim(make_job(store).id, model="fake", owner=owner, claim=new_claim_id())
    assert job is not None
    return job


def event(job: Job, text: str) -> str:
    return f'{{"type":"delta","c":"{job.claim}","text":"{text}"}}'


def append(store: JobStore, job: Job, first: int, *texts: str, state: JobState | None = None) -> tuple[str, int]:
    verdict = store.journals.append([Append(job.id, job.claim, first, [event(job, t) for t in texts], state)])[0]
    return verdict.verdict, verdict.seq


def texts(store: JobStore, job: Job) -> list[str]:
    return [str(e.body.get("text", e.type.value)) for e in store.journals.read(job.id)]


def test_only_one_of_many_claimers_wins(store: JobStore) -> None:
    job = make_job(store)
    won: list[Job] = []
    barrier = threading.Barrier(8)

    def race(owner: str) -> None:
        barrier.wait()
        if got := store.claim(job.id, model="fake", owner=owner, claim=new_claim_id()):
            won.append(got)

    threads = [threading.Thread(target=race, args=(f"w{i}",)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert won[0].epoch == 1


def test_a_claim_asked_again_answers_the_same(store: JobStore) -> None:
    job = make_job(store)
    first = store.claim(job.id, model="fake", owner="w", claim="abc")
    again = store.claim(job.id, model="fake", owner="w", claim="abc")
    assert first is not None
    assert again is not None
    assert (first.epoch, again.epoch) == (1, 1)


def test_a_record_of_a_newer_version_is_left_to_a_newer_worker(store: JobStore) -> None:
    job = make_job(store)
    store.redis.hset(keys.job(job.id), "v", RECORD_VERSION + 1)
    assert store.claim(job.id, model="fake", owner="w", claim="abc") is None
    record = store.redis.hgetall(keys.job(job.id))
    assert (record["state"], record.get("claim", "")) == ("queued", "")
    assert job.id in store.redis.zrange(keys.queued("fake"), 0, -1)
    assert not store.redis.zrange(keys.RUNNING, 0, -1)
    store.redis.hset(keys.job(job.id), "v", RECORD_VERSION)
    assert store.claim(job.id, model="fake", owner="w", claim="abc") is not None


def test_an_append_sent_twice_is_applied_once(store: JobStore) -> None:
    job = claimed(store)
    assert append(store, job, 1, "a", "b") == ("ok", 2)
    assert append(store, job, 1, "a", "b") == ("ok", 2)
    assert append(store, job, 3, "c") == ("ok", 3)
    assert texts(store, job) == ["a", "b", "c"]


def test_an_append_that_overlaps_adds_only_what_is_new(store: JobStore) -> None:
    job = claimed(store)
    append(store, job, 1, "a")
    assert append(store, job, 1, "a", "b", "c") == ("ok", 3)
    assert texts(store, job) == ["a", "b", "c"]


def test_a_gap_is_reported_and_nothing_written(store: JobStore) -> None:
    job = claimed(store)
    assert append(store, job, 3, "c") == ("gap", 0)
    assert texts(store, job) == []


def test_a_zombie_adds_nothing_after_another_took_over(store: JobStore) -> None:
    zombie = claimed(store)
    append(store, zombie, 1, "a")
    assert store.release(zombie, Cause.CRASHED)
    successor = store.claim(zombie.id, model="fake", owner="w2", claim=new_claim_id())
    assert successor is not None
    assert append(store, zombie, 2, "z")[0] == "fenced"
    assert append(store, successor, 2, "b") == ("ok", 2)
    assert append(store, zombie, 2, "z")[0] == "fenced"
    assert not store.release(zombie, Cause.CRASHED)
    assert texts(store, zombie) == ["a", "b"]


def test_a_claim_that_is_taken_again_adds_nothing_behind_what_another_has_written(store: JobStore) -> None:
    """As after a power cut, when a worker that was away sends all again."""
    zombie = claimed(store)
    append(store, zombie, 1, "a")
    assert store.release(zombie, Cause.LOST)
    successor = store.claim(zombie.id, model="fake", owner="w2", claim=new_claim_id())
    assert successor is not None
    append(store, successor, 2, "b")
    assert store.release(successor, Cause.LOST)
    store.restore(zombie, owner="w1")
    assert append(store, zombie, 1, "a") == ("ok", 2)
    assert append(store, zombie, 1, "a", "y")[0] == "fenced"
    assert append(store, zombie, 1, "a", "y", "z", state=JobState.DONE)[0] == "fenced"
    assert append(store, zombie, 2, "y", "z")[0] == "fenced"
    assert texts(store, zombie) == ["a", "b"]


def test_a_claim_that_is_taken_again_loses_no_token_and_replays_none(store: JobStore) -> None:
    """As after a failover, when the keeper of the new Redis has found no sign of the worker, which sends all again."""
    job = claimed(store)
    events = [event(job, text) for text in "abcd"]

    def written(count: int, state: JobState | None = None) -> str:
        fields = {"usage": '{"completion_tokens":4}'} if state else {}
        sent = Append(job.id, job.claim, 1, events[:count], state, fields, tokens=count, ids=count)
        return store.journals.append([sent])[0].verdict

    assert written(2) == "ok"
    assert store.release(job, Cause.LOST)
    store.restore(job, owner="w1")
    assert (written(2), written(4, JobState.DONE)) == ("ok", "ok")
    counted = store.redis.hgetall(keys.METRICS)
    assert {name: number for name, number in counted.items() if name.startswith(("lost", "replayed", "resumes"))} == {}
    assert counted["tokens\x1ffake\x1fanswer"] == "4"


def test_a_job_ends_once(store: JobStore) -> None:
    job = claimed(store)
    assert append(store, job, 1, "a", state=JobState.DONE) == ("ok", 1)
    assert append(store, job, 1, "a", state=JobState.DONE) == ("ok", 1)
    assert append(store, job, 2, "b")[0] == "ended"
    assert cancel(store, job, reason="x") == "done"
    assert fail(store, job, reason="x", message="y", take_claim=job.claim) == "done"
    assert texts(store, job) == ["a"]
    assert store.redis.pttl(keys.job(job.id)) > 0


def test_no_ttl_before_the_end(store: JobStore) -> None:
    job = claimed(store)
    append(store, job, 1, "a")
    assert store.redis.pttl(keys.job(job.id)) == -1
    assert store.redis.pttl(keys.events(job.id)) == -1


def test_cancel_ends_a_queued_job_at_once_and_marks_a_running_one(store: JobStore) -> None:
    queued = make_job(store)
    assert cancel(store, queued, reason="x") == "cancelled"
    assert cancel(store, queued, reason="x") == "cancelled"
    assert texts(store, queued) == ["cancelled"]
    running = claimed(store)
    assert cancel(store, running, reason="x") == "cancelling"
    verdict = store.journals.append([Append(running.id, running.claim, 1, [event(running, "a")])])[0]
    assert verdict.cancel


def test_crashes_count_until_a_job_has_shown_progress(store: JobStore) -> None:
    job_id = make_job(store).id
    for crashes, tokens in [(1, 3), (2, 3), (2, 20), (1, 70), (2, 3), (3, 3)]:
        job = store.claim(job_id, model="fake", owner="w", claim=new_claim_id())
        assert job is not None
        store.journals.append([Append(job_id, job.claim, job.seq + 1, [event(job, "x")], tokens=tokens)])
        assert store.release(job, Cause.CRASHED)
        record = store.read(job_id)
        assert record is not None
        assert record.crashes == crashes, "one event may hold many tokens"


@pytest.mark.parametrize(("cause", "tokens", "crashes"), [(Cause.LOST, 1, 0), (Cause.GIVEN_BACK, 1, 0)])
def test_what_is_no_fault_of_a_job_is_bounded_but_not_blamed_on_it(
    store: JobStore, cause: Cause, tokens: int, crashes: int
) -> None:
    job_id = make_job(store).id
    for losses in (1, 2, 3, 4):
        job = store.claim(job_id, model="fake", owner="w", claim=new_claim_id())
        assert job is not None
        store.journals.append([Append(job_id, job.claim, job.seq + 1, [event(job, "x")], tokens=tokens)])
        assert store.release(job, cause)
        record = store.read(job_id)
        assert record is not None
        assert (record.crashes, record.losses) == (crashes, losses)


def test_a_job_whose_worker_dies_before_it_has_begun_is_blamed(store: JobStore) -> None:
    """Its preparation may have killed the worker."""
    job = claimed(store)
    assert store.release(job, Cause.LOST)
    record = store.read(job.id)
    assert record is not None
    assert record.crashes == 1


def wait_for(hub: Hub, watcher: Watcher) -> Iterator[list[Event]]:
    """As a thread follows a job."""
    yield from watcher.events()


def take_from(hub: Hub, watcher: Watcher) -> Iterator[list[Event]]:
    """As an event loop follows it: what the hub tells of is taken, the journal is read in between."""
    news = threading.Event()
    hub.on_news = lambda watchers: news.set() if watcher in watchers else None
    while not watcher.ended:
        news.clear()
        if watcher.lagging:
            yield from watcher.catch_up()
        elif (events := watcher.take()) is not None:
            yield events
        elif not watcher.lagging:
            assert news.wait(60)


@pytest.mark.parametrize("way", [wait_for, take_from])
def test_a_watcher_sees_all_events_once_and_the_end(
    store: JobStore, hub: Hub, way: Callable[[Hub, Watcher], Iterator[list[Event]]]
) -> None:
    job = claimed(store)
    append(store, job, 1, "a", "b")
    watcher = hub.watch(job.id)
    seen: list[str] = []

    def follow() -> None:
        seen.extend(str(e.body.get("text")) for batch in way(hub, watcher) for e in batch)

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    for i, letter in enumerate("cdefgh"):
        verdict = store.journals.append([Append(job.id, job.claim, 3 + i, [event(job, letter)])])[0]
        if i % 2:  # every second message is lost on the way
            store.journals.publish({h: [(job.id, 3 + i, [event(job, letter)])] for h in verdict.watch})
        time.sleep(0.01)
    done = f'{{"type":"done","c":"{job.claim}","text":"end"}}'
    store.journals.append([Append(job.id, job.claim, 9, [done], JobState.DONE)])
    thread.join(60)
    assert seen == [*"abcdefgh", "end"]


def test_a_cursor_resumes_behind_what_was_seen(store: JobStore, hub: Hub) -> None:
    job = claimed(store)
    append(store, job, 1, "a", "b", "c")
    cancel(store, job, reason="x", take_claim=job.claim)
    events = [e for batch in hub.watch(job.id, after=2, claim=job.claim).events() for e in batch]
    assert [e.seq for e in events] == [3, 4]


def test_a_cursor_that_the_journal_does_not_hold_is_told_so(store: JobStore, hub: Hub) -> None:
    job = claimed(store)
    append(store, job, 1, "a", "b")
    cancel(store, job, reason="x", take_claim=job.claim)
    events = [e for batch in hub.watch(job.id, after=7, claim="gone").events() for e in batch]
    assert events[0].type == "rewound"
    assert events[0].body["text"] == {"0": "ab"}
    assert events[-1].type == "cancelled"


def test_a_vanished_job_is_told_as_expired(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher, "MISSING_S", 0.1)
    events = [e for batch in hub.watch("chatcmpl-none").events() for e in batch]
    assert [e.type.value for e in events] == ["expired"]


def append_vectors(store: JobStore, job: Job, first: int, *vectors: tuple[int, bytes], **end: JobState) -> str:
    body = f'{{"type":"vectors","c":"{job.claim}","done":{[offset for offset, _ in vectors]}}}'
    return store.journals.append([Append(job.id, job.claim, first, [body], vectors=vectors, **end)])[0].verdict


def test_vectors_come_with_their_event_and_live_as_long_as_the_job(store: JobStore) -> None:
    job = claimed(store)
    assert append_vectors(store, job, 1, (4, b"\xff\x00\xfe\x01")) == "ok"
    assert append_vectors(store, job, 1, (4, b"\xff\x00\xfe\x01")) == "ok"
    assert append_vectors(store, job, 3, (0, b"gap.")) == "gap"
    assert store.journals.vectors(job.id) == b"\0\0\0\0\xff\x00\xfe\x01"
    assert store.redis.pttl(keys.vectors(job.id)) == -1
    assert append_vectors(store, job, 2, (0, b"\x80abc"), state=JobState.DONE) == "ok"
    assert store.journals.vectors(job.id) == b"\x80abc\xff\x00\xfe\x01"
    assert 0 < store.redis.pttl(keys.vectors(job.id)) <= 60_000


def test_a_zombie_writes_no_vectors_and_a_cancelled_job_keeps_none(store: JobStore) -> None:
    zombie = claimed(store)
    append_vectors(store, zombie, 1, (0, b"good"))
    store.release(zombie, Cause.CRASHED)
    successor = store.claim(zombie.id, model="fake", owner="w2", claim=new_claim_id())
    assert successor is not None
    assert append_vectors(store, zombie, 2, (0, b"evil")) == "fenced"
    assert store.journals.vectors(zombie.id) == b"good"
    assert cancel(store, successor, reason="x", take_claim=successor.claim) == "cancelled"
    assert store.journals.vectors(zombie.id) == b""


def test_heads_are_records_without_their_requests(store: JobStore) -> None:
    waits, runs = make_job(store, price="1 2 EUR"), claimed(store)
    append(store, runs, 1, "a", state=JobState.DONE)
    gone = new_job_id("chat")
    heads = store.heads([waits.id, gone, runs.id])
    assert list(heads) == [waits.id, gone, runs.id]
    assert heads[gone] is None
    for job_id in (waits.id, runs.id):
        whole, head = store.read(job_id), heads[job_id]
        assert whole and head
        assert {name: value for name, value in vars(whole).items() if name != "request"} == vars(head)
    assert store.heads([]) == {}


def test_the_keeper_blanks_the_prompt_of_a_job_that_it_ends(store: JobStore, keeper: Keeper) -> None:
    request = {"messages": [{"role": "user", "content": "a secret"}], "store": False}
    job = Job(new_job_id("chat"), JobState.QUEUED, "chat", "fake", "key", request)
    store.create(job, ttl_ms=60_000, attended_ms=1)

    def ended() -> bool:
        keeper.round()
        found = store.read(job.id)
        return found is not None and found.state is JobState.CANCELLED

    eventually(ended, "its client is gone")
    assert "secret" not in str(store.redis.hgetall(keys.job(job.id)))


def test_a_job_that_could_not_be_settled_stays_in_an_index(
    store: JobStore, keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis has lost its scripts, and the connection breaks while they are loaded: the keeper finds what is left."""
    job = claimed(store)
    append(store, job, 1, "a", state=JobState.DONE)
    store.redis.script_flush()
    with monkeypatch.context() as patch:
        patch.setattr(store.scripts, "load", _broken)
        with pytest.raises(redis.exceptions.ConnectionError):
            store.finalize(Ended(job, JobState.DONE, {}))
    assert store.redis.smembers(keys.open_jobs("key")) == {job.id}
    keeper.round()
    assert not store.redis.exists(keys.open_jobs("key"), keys.RUNNING)


def _broken() -> None:
    raise redis.exceptions.ConnectionError
