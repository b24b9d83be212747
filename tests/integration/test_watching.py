"""Watchers and their hub while something is wrong: other claims, lost records, garbage, a Redis that refuses."""

from __future__ import annotations

import threading

import pytest
import redis

from gateway.errors import Unreadable
from gateway.jobs.control import cancel
from gateway.jobs.events import Append
from gateway.jobs.journal_store import AppendVerdict
from gateway.jobs.record import Job, JobState, new_claim_id, new_job_id
from gateway.jobs.store import JobStore
from gateway.store import keys
from gateway.store.codec import dumps
from gateway.watching import hub as watch
from gateway.watching import watcher
from gateway.watching.hub import Hub
from gateway.watching.watcher import Watcher
from tests.stack import eventually


@pytest.fixture
def store(redis_client: redis.Redis) -> JobStore:
    return JobStore(redis_client)


@pytest.fixture
def job(store: JobStore) -> Job:
    """A job that a worker has just claimed."""
    job = Job(new_job_id("chat"), JobState.QUEUED, "chat", "fake", "key", {"messages": []})
    return claim(store, store.create(job, ttl_ms=60_000, attended_ms=1000).job)


@pytest.fixture
def silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """No tick makes a watcher read the journal."""
    monkeypatch.setattr(watch, "TICK_S", 60)


def claim(store: JobStore, job: Job) -> Job:
    claimed = store.claim(job.id, model="fake", owner="w", claim=new_claim_id())
    assert claimed is not None
    return claimed


def delta(job: Job, text: str) -> str:
    return dumps({"type": "delta", "c": job.claim, "text": text})


def append(store: JobStore, job: Job, first: int, texts: str, *, tell: bool = True) -> None:
    """One event for each letter, to all that watch."""
    events = [delta(job, text) for text in texts]
    (verdict,) = store.journals.append([Append(job.id, job.claim, first, events)])
    assert verdict.verdict is AppendVerdict.OK
    if tell:
        store.journals.publish({hub: [(job.id, first, events)] for hub in verdict.watch})


def rewind(store: JobStore, job: Job, to: int, **fields: str) -> None:
    """Redis as it was when the journal ended there."""
    kept = store.journals.read(job.id)[:to]
    store.redis.delete(keys.events(job.id))
    for event in kept:
        store.redis.xadd(keys.events(job.id), {"e": event.encoded}, id=f"{event.seq}-0")
    store.redis.hset(keys.job(job.id), mapping={"seq": to, **fields})


class Client(threading.Thread):
    """Takes what a watcher gives, as a client would put it together."""

    def __init__(self, watcher: Watcher) -> None:
        super().__init__(daemon=True)
        self.watcher = watcher
        self.text = ""
        self.types: list[str] = []
        self.silences = 0
        self.start()

    def run(self) -> None:
        for events in self.watcher.events():
            self.silences += not events
            for event in events:
                self.types.append(event.type.value)
                self.text = event.body["text"].get("0", "") if self.types[-1] == "rewound" else self.text
                self.text += event.body.get("text", "") if self.types[-1] == "delta" else ""

    def has(self, text: str) -> None:
        eventually(lambda: self.text == text, f"the client has {text!r}, not {self.text!r}")


@pytest.mark.usefixtures("silence")
def test_events_of_another_claim_are_never_spliced(store: JobStore, hub: Hub, job: Job) -> None:
    """Given a client that has what Redis lost, when another worker writes on, then it hears what stands."""
    client = Client(hub.watch(job.id))
    append(store, job, 1, "abcdef")
    client.has("abcdef")
    rewind(store, job, 4, state="queued", claim="")
    other = claim(store, job)
    append(store, other, 5, "XY")
    append(store, other, 7, "Z")
    client.has("abcdXYZ")
    assert client.types.count("rewound") == 1


@pytest.mark.parametrize("to", [5, 4])
def test_an_end_from_outside_is_never_spliced(store: JobStore, hub: Hub, job: Job, to: int) -> None:
    """Given a client that has what Redis lost, when the keeper ends the job at one of those seqs, then it hears so."""
    client = Client(hub.watch(job.id))
    append(store, job, 1, "abcdef")
    client.has("abcdef")
    rewind(store, job, to)
    assert cancel(store, job, reason="x", take_claim=job.claim) == "cancelled"
    client.join(60)
    assert client.types[-2:] == ["rewound", "cancelled"]
    assert client.text == "abcdef"[:to]


@pytest.mark.usefixtures("silence")
def test_a_hub_that_is_back_lets_its_watchers_read_the_journal(store: JobStore, hub: Hub, job: Job) -> None:
    client = Client(hub.watch(job.id))
    append(store, job, 1, "abc")
    client.has("abc")
    store.redis.client_kill_filter(_type="pubsub", skipme=True)
    append(store, job, 4, "def", tell=False)
    client.has("abcdef")
    assert hub.settling()


@pytest.mark.usefixtures("silence")
def test_garbage_on_the_channel_costs_nothing(store: JobStore, hub: Hub, job: Job) -> None:
    client = Client(hub.watch(job.id))
    append(store, job, 1, "ab")
    client.has("ab")
    good = dumps([job.id, 3, [{"type": "delta", "c": job.claim, "text": "c"}]])
    lone = (b"\xff\xfe", "", "no JSON", "5", "null", '{"a":1}', "[[]]", "[null]", '[[["a"],1,[]]]')
    items = (f'["{job.id}",1]', f'["{job.id}","1",[{{}}]]', f'["{job.id}",9,[5]]', f'["{job.id}",9,[{{"type":"?"}}]]')
    for message in (*lone, *(f"[{item},{good}]" for item in items)):
        store.redis.publish(keys.hub(hub.id), message)
    client.has("abc")
    append(store, job, 3, "cd")
    client.has("abcd")
    assert not hub.settling()


@pytest.mark.usefixtures("silence")
def test_a_watcher_that_fails_touches_no_other(
    store: JobStore, hub: Hub, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("a mistake of ours")

    broken = hub.watch(job.id)
    monkeypatch.setattr(broken, "push", fail)
    monkeypatch.setattr(broken, "tick", fail)
    hub.on_news = fail
    client = Client(hub.watch(job.id))
    append(store, job, 1, "a")
    client.has("a")
    append(store, job, 2, "b")
    client.has("ab")
    assert all(thread.is_alive() for thread in hub._threads)


def test_a_job_that_redis_refuses_keeps_none_from_being_attended(
    store: JobStore, hub: Hub, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "RENEW_S", 0.1)
    store.redis.set(keys.job("bad"), "no hash")
    refused = store.renew_leases(["bad", job.id], hub_id="h", attended_ms=1)
    assert refused == ["bad"]
    hub.watch_new("bad")
    hub.watch(job.id)

    def attended() -> int:
        found = store.read(job.id)
        return found.attended_until if found else 0

    for _ in range(2):
        before = attended()
        eventually(lambda before=before: attended() > before, "it is attended again")


def test_attendance_goes_on_in_a_full_redis(store: JobStore, job: Job) -> None:
    store.redis.config_set("maxmemory", 1)
    try:
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            store.redis.set("x", "y")
        assert store.renew_leases([job.id], hub_id="h", attended_ms=60_000) == []
    finally:
        store.redis.config_set("maxmemory", 0)
    found = store.read(job.id)
    assert found
    assert found.attended_until > store.clock.now_ms() + 30_000


def test_a_subscriber_that_hears_not_even_itself_comes_back(
    store: JobStore, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a proxy keeps the connection open, but passes nothing on."""
    monkeypatch.setattr(watch, "SILENCE_S", 0.2)
    hub.start()
    eventually(hub.settling, "it has taken the connection for dead")


def test_a_record_that_comes_back_in_time_was_never_away(store: JobStore, hub: Hub, job: Job) -> None:
    """Given a Redis that lost a job, when its worker puts it back, then the client sees a pause."""
    append(store, job, 1, "abc")
    client = Client(hub.watch(job.id))
    client.has("abc")
    record = store.read(job.id)
    assert record
    store.redis.delete(*keys.of_job(job.id))
    silences = client.silences
    eventually(lambda: client.silences > silences + 1, "it was told to wait")
    store.restore(record, owner="w")
    append(store, job, 1, "abcdef")
    client.has("abcdef")
    assert set(client.types) == {"delta"}


def test_a_journal_that_its_worker_completes_was_never_short(store: JobStore, hub: Hub, job: Job) -> None:
    append(store, job, 1, "abcdef")
    rewind(store, job, 3)
    client = Client(hub.watch(job.id, after=6, claim=job.claim))
    eventually(lambda: client.silences > 1, "it was told to wait")
    append(store, job, 4, "defgh")
    client.has("gh")
    assert set(client.types) == {"delta"}


def test_what_stays_away_is_lost(store: JobStore, hub: Hub, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher, "MISSING_S", 0.5)
    append(store, job, 1, "abcdef")
    rewind(store, job, 3)
    short = Client(hub.watch(job.id, after=6, claim=job.claim))
    short.has("abc")
    gone = Client(hub.watch("chatcmpl-none"))
    gone.join(60)
    assert (short.types, gone.types) == (["rewound"], ["expired"])


def test_a_watch_that_failed_leaves_no_watcher(store: JobStore, hub: Hub) -> None:
    store.redis.set(keys.job("bad"), "no hash")
    with pytest.raises(Unreadable):
        hub.watch("bad")
    assert hub.watching() == 0
