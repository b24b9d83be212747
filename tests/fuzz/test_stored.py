"""What lies in Redis, changed at random, is read by every reader: nothing raises but the documented error, the keeper
comes to the end of its round, and a good job beside it is served."""

from __future__ import annotations

import contextlib
import datetime
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any, cast

import pytest
import redis
from hypothesis import given, strategies
from hypothesis.strategies import DataObject, SearchStrategy

from gateway.access.api_keys import Credentials
from gateway.cluster.desired import Desired, ReplicaSpec
from gateway.cluster.durations import Durations
from gateway.cluster.known_footprints import Footprints
from gateway.cluster.nodes import Nodes
from gateway.cluster.registry import Device, KeeperState, ProviderWorker, Registry, Replica
from gateway.cluster.startup import StartupLog
from gateway.deployments import views as deployment_views
from gateway.errors import HeadraceError, Unreadable
from gateway.jobs import journal as results
from gateway.jobs.compaction import compact_ended
from gateway.jobs.control import fail
from gateway.jobs.damaged import quarantine
from gateway.jobs.events import Append, EventType
from gateway.jobs.journal_store import AppendVerdict
from gateway.jobs.record import HEAD_FIELDS, Job, JobState, new_claim_id, new_job_id
from gateway.jobs.resume_point import ResumePoint
from gateway.jobs.statistics import read_stats
from gateway.jobs.store import Ended, JobStore
from gateway.models.footprint import Footprint
from gateway.store import keys
from gateway.store.codec import Unwritable, dumps, loads
from gateway.views import embeddings, text
from gateway.views.nodes import NodeViews
from gateway.watching.hub import Hub
from tests.fuzz.budget import budget
from web.http.chunks import sse_chunks
from web.http.dialect import Plain
from web.http.sse import frame
from web.rpc.chunks import message_chunks
from workers.keeper.keeper import Keeper
from workers.providers.transcript import Transcript

MODEL = "elsewhere/model"
REPLICA = Replica("w-1", "r-1", MODEL, "n", "cpu0", "active", 1, loaded_at="2026-01-01T00:00:00Z")
DEVICE = Device("a-1", "n", "cpu0", 1, engines=("fake",))
WANTED = ReplicaSpec("r-1", MODEL, "n", "cpu0")
_TEXTS = strategies.text(max_size=6) | strategies.sampled_from(
    ["", "0", "-1", "NaN", "\ufdd0", "\0", "1 1 USD", "running"]
)
_NUMBERS = strategies.sampled_from([0, 1, -1, 7, 4095, 4096, 2**31, 2**53, 2**63, 2**64, 10**30, 1e308, -0.5, 10**15])
#: Any value of JSON.
VALUES: SearchStrategy[Any] = strategies.recursive(
    strategies.none() | strategies.booleans() | _NUMBERS | _TEXTS,
    lambda inner: strategies.lists(inner, max_size=3) | strategies.dictionaries(_TEXTS, inner, max_size=3),
    max_leaves=5,
)
#: What else may lie in the place of a text of JSON.
RAW = strategies.sampled_from(
    [b"", b"{", b"null", b"[]", b"7", b'"a"', b"\xff\xfe{}", b'{"type":', b"[" * 2_000, b"NaN"]
)


@pytest.fixture
def store(redis_client: redis.Redis) -> JobStore:
    return JobStore(redis_client)


def events_of(claim: str) -> list[dict[str, Any]]:
    """One event of each type that is kept."""
    delta = {"ids": [1, 2], "text": "ab", "lp": [["a", -0.5, 0], ["b", -1.0, 1, "62"]], "index": 0}
    call = {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    about = {"model": MODEL, "weights": "w", "tokenizer": "t", "prompt": "p", "replica": "r-1", "prompt_tokens": 3}
    bodies: list[tuple[EventType, dict[str, Any]]] = [
        (EventType.STARTED, {"v": 1, **about}),
        (EventType.DELTA, delta),
        (EventType.DELTA, {"tool_calls": [call], "finish": "tool_calls"}),
        (
            EventType.INTERRUPTED,
            {"model": MODEL, "reason": "upstream_error", "message": "m", "next": "b", "mode": "restart"},
        ),
        (EventType.RESUMED, {"mode": "restart", "text": {"0": "ab"}, "from": "x", **about}),
        (EventType.VECTORS, {"done": [0, 1]}),
        (EventType.STAGE, {"at": 1, "replica": "r-1", "stage": "preparation", "status": "completed", "progress": 100}),
        (EventType.LOG, {"at": 2, "level": "info", "message": "hello"}),
        (
            EventType.FACTS,
            {"at": 3, "replica": "r-1", "entry": "1-0", "end": "active", "failure": {}, "facts": {"a": 1}},
        ),
        (EventType.SNAPSHOT, {"choices": [delta], "completion_tokens": 2, "prompt_tokens": 3, "served_by": [MODEL]}),
        (EventType.DONE, {"usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}}),
    ]
    return [{"type": kind.value, "c": claim, **body} for kind, body in bodies]


def changed(data: DataObject, value: Any) -> Any:
    """A value of JSON, somewhere in which something is missing, added, or another."""
    if isinstance(value, dict) and value and data.draw(strategies.booleans()):
        name = data.draw(strategies.sampled_from(sorted(value)))
        match data.draw(strategies.sampled_from(["inner", "missing", "added"])):
            case "missing":
                return {key: inner for key, inner in value.items() if key != name}
            case "added":
                return {**value, data.draw(_TEXTS): data.draw(VALUES)}
        return {**value, name: changed(data, value[name])}
    if isinstance(value, list) and value and data.draw(strategies.booleans()):
        at = data.draw(strategies.integers(0, len(value) - 1))
        return [*value[:at], changed(data, value[at]), *value[at + 1 :]]
    return data.draw(VALUES)


def damaged(data: DataObject, text: bytes) -> bytes:
    """JSON with another value, or with a wrong byte, or none at all."""
    match data.draw(strategies.sampled_from(["value", "byte", "raw", "cut"])):
        case "value":
            return json.dumps(changed(data, loads(text)), ensure_ascii=True, allow_nan=False).encode()
        case "byte":
            at = data.draw(strategies.integers(0, max(0, len(text) - 1)))
            return text[:at] + bytes([data.draw(strategies.integers(0, 255))]) + text[at + 1 :]
        case "cut":
            return text[: data.draw(strategies.integers(0, len(text)))]
    return data.draw(RAW)


def make_job(store: JobStore, kind: str = "chat", **more: Any) -> Job:
    request = {
        "messages": [{"role": "user", "content": "hi"}],
        "logprobs": True,
        "stream_options": {"include_usage": True},
    }
    if kind == "deployment":
        request |= {"wanted": [asdict(WANTED)], "replaced": []}
    if kind == "completion":
        request |= {"prompt": "hi", "echo": True}
    job = Job(new_job_id(kind), JobState.QUEUED, kind, MODEL, "key", {**request, **more})
    return store.create(job, ttl_ms=60_000).job


def documented(read: Callable[[], Any]) -> Any:
    """What a reader gives, or None if it says that it can't."""
    with contextlib.suppress(Unreadable):
        return read()
    return None


def good_job_is_served(store: JobStore) -> None:
    """From its making to its end, as clients see it."""
    job = make_job(store)
    claimed = store.claim(job.id, model=MODEL, owner="alive", claim=new_claim_id())
    assert claimed is not None
    bodies = [body for body in events_of(claimed.claim) if body["type"] in ("started", "delta", "done")]
    events = [dumps(body) for body in bodies]
    (verdict,) = store.journals.append([Append(job.id, claimed.claim, 1, events, JobState.DONE, {"usage": "{}"})])
    assert verdict.verdict is AppendVerdict.OK
    store.finalize(Ended(claimed, JobState.DONE, {}))
    assert text.answer(claimed, store.journals.read(job.id))["choices"][0]["message"]["content"] == "ab"


def empty(store: JobStore) -> None:
    store.redis.flushdb()
    Registry(store.redis).beat_provider(ProviderWorker("alive", "n", 1), lease_s=600)


@budget()
@given(data=strategies.data())
def test_journals(store: JobStore, keeper: Keeper, hub: Hub, data: DataObject) -> None:
    empty(store)
    kind = data.draw(strategies.sampled_from(["chat", "completion", "embedding", "deployment"]))
    job = store.claim(make_job(store, kind).id, model=MODEL, owner="alive", claim="c")
    assert job is not None
    bodies = [dumps(body).encode() for body in data.draw(strategies.permutations(events_of("c")))]
    for at in data.draw(strategies.lists(strategies.integers(0, len(bodies) - 1), max_size=3, unique=True)):
        bodies[at] = damaged(data, bodies[at])
    for seq, body in enumerate(bodies, 1):
        store.redis.xadd(keys.events(job.id), {"e": body}, id=f"{seq}-0")
    store.redis.hset(keys.job(job.id), mapping={"seq": len(bodies)})
    if data.draw(strategies.booleans()):
        store.redis.setrange(keys.vectors(job.id), 0, bytes(data.draw(strategies.integers(0, 20))))
    events = documented(lambda: store.journals.read(job.id))
    watched = [event for batch in hub.watch(job.id).catch_up() for event in batch]
    for event in watched:
        for encoder in (sse_chunks(job), message_chunks(job)):
            encoder.encode(event)
        frame(sse_chunks(job), event, Plain("r-1"))
    if events:
        readers: tuple[Callable[[], Any], ...] = (
            lambda: results.fold(events, num_choices=results.num_choices(job)),
            lambda: results.usage(events),
            lambda: text.answer(job, events),
            lambda: embeddings.answer(job, events, store.journals.vectors(job.id)),
            lambda: deployment_views.detail(job, events) if kind == "deployment" else None,
            lambda: ResumePoint.from_journal(job, events).read_by(tokenizer="t", prompt="q"),
            lambda: Transcript(job, events).usage(),
        )
        for read in readers:
            with contextlib.suppress(HeadraceError):
                json.dumps(read(), default=str)
    keeper.round()
    assert fail(store, job, reason="internal_error", message="m", take_claim=job.claim) == "failed"
    compact_ended(store, MODEL, before_ms=2**53)
    keeper.round()
    assert not store.redis.zcard(keys.RUNNING)
    good_job_is_served(store)


@budget()
@given(data=strategies.data())
def test_records(store: JobStore, keeper: Keeper, hub: Hub, data: DataObject) -> None:
    empty(store)
    kind = data.draw(strategies.sampled_from(["chat", "completion", "deployment"]))
    job = make_job(store, kind)
    state = data.draw(strategies.sampled_from(["queued", "running", "ended"]))
    if state != "queued":
        claimed = store.claim(job.id, model=MODEL, owner="nobody", claim="c")
        assert claimed is not None
        if state == "ended":
            fail(store, claimed, reason="internal_error", message="m", take_claim="c")
    name = data.draw(strategies.sampled_from([*HEAD_FIELDS, "request", "watch", "claim_seq", "hash"]))
    if name == "hash":
        store.redis.delete(keys.job(job.id))
        store.redis.rpush(keys.job(job.id), "x")
    elif data.draw(strategies.booleans()):
        store.redis.hdel(keys.job(job.id), name)
    else:
        raw = cast("str | None", store.redis.hget(keys.job(job.id), name)) or ""
        odd = [str(data.draw(VALUES)).encode(errors="replace"), data.draw(RAW)]
        odd += [damaged(data, raw.encode())] if raw[:1] == "{" else [raw.encode() + b"\xed"]
        store.redis.hset(keys.job(job.id), name, data.draw(strategies.sampled_from(odd)))
    newer = name == "v"
    for read in (lambda: store.read(job.id), lambda: store.heads([job.id]), lambda: store.read_many([job.id])):
        documented(read)
    documented(lambda: hub.watch(job.id).catch_up())
    documented(lambda: store.claim(job.id, model=MODEL, owner="alive", claim="d"))
    for _ in range(3):
        keeper.round()
    good_job_is_served(store)
    found = documented(lambda: store.read(job.id))
    if found is None and not newer and store.redis.exists(keys.job(job.id)):
        # Whoever takes it or ends it finds that its request can't be read.
        assert quarantine(store, job.id)
        found = store.read(job.id)
        assert found is not None
        assert found.error["reason"] == "unreadable"
        assert store.journals.read(job.id)[-1].type.terminal


@budget()
@given(data=strategies.data())
def test_what_workers_say_and_what_is_wanted(store: JobStore, keeper: Keeper, data: DataObject) -> None:
    empty(store)
    client, registry, desired = store.redis, Registry(store.redis), Desired(store.redis)
    good, _ = Credentials(client).create("good")
    record, secret = Credentials(client).create("odd", secret="hr-odd")
    registry.heartbeat(REPLICA, lease_s=600)
    registry.heartbeat(replace(REPLICA, incarnation="w-2", replica_id="r-2"), lease_s=600)
    registry.beat_device(DEVICE, lease_s=600)
    nodes = Nodes(client)
    nodes.note(DEVICE)
    nodes.note(replace(DEVICE, node="good"))
    registry.beat_keeper(KeeperState(), lease_s=600)
    desired.put(WANTED, replace(WANTED, replica_id="r-2"))
    Footprints(client).publish("n", "cpu0", {MODEL: Footprint("gguf", 1)})
    log = StartupLog(client, "r-1")
    log.append(stage="preparation", status="completed", progress=100)
    Durations(client).add(MODEL, {"preparation": 1.0})
    places: Mapping[str, tuple[str, str]] = {
        "replica": (keys.worker("w-1"), ""),
        "device": (keys.worker("a-1"), ""),
        "provider": (keys.worker("alive"), ""),
        "keeper": (keys.KEEPER, ""),
        "desired": (keys.desired("n", "cpu0"), "r-1"),
        "node": (keys.node("n"), data.draw(strategies.sampled_from(["first_seen", "hold", "device:cpu0", "label:x"]))),
        "footprint": (keys.footprints("n", "cpu0"), MODEL),
        "durations": (keys.durations(MODEL), "preparation"),
    }
    name = data.draw(strategies.sampled_from([*places, "key", "bringup", "ledger", "stats", "type"]))
    odd = data.draw(RAW) if data.draw(strategies.booleans()) else dumps(data.draw(VALUES)).encode()
    day = f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}"
    if name == "key":
        digest = cast(str, client.hget(keys.API_KEYS, record.id))
        fields = ["id", "name", "scopes", "models", "created_at", "expires_at", "requests_per_minute", "prefix"]
        client.hset(keys.api_key(digest), data.draw(strategies.sampled_from(fields)), odd)
    elif name == "bringup":
        client.xadd(keys.startup_log("r-1"), {data.draw(strategies.sampled_from(["e", "f"])): odd})
    elif name == "ledger":
        client.hset(keys.usage(good.id, day), data.draw(strategies.sampled_from([odd, b"10 jobs USD m"])), odd)
    elif name == "stats":
        client.hset(keys.stats(MODEL, store.clock.now_ms() // 300_000), "answered", odd)
    elif name == "type":
        where, _ = data.draw(strategies.sampled_from(list(places.values())))
        client.delete(where)
        client.rpush(where, "x")
    else:
        where, field = places[name]
        raw = cast(str, (client.hget(where, field) if field else client.get(where)) or "")
        text = damaged(data, raw.encode()) if data.draw(strategies.booleans()) else odd
        client.hset(where, field, text) if field else client.set(where, text)
    assert "good" in {node["name"] for node in NodeViews(nodes, registry, desired).all()}
    documented(lambda: NodeViews(nodes, registry, desired).one("n"))
    nodes.open_devices(registry.devices())
    registry.keeper(), registry.devices(), registry.providers(), registry.alive(["w-1", "a-1", "alive"])
    assert "r-2" in {replica.replica_id for replica in registry.replicas()}
    json.dumps([[asdict(replica), replica.health] for replica in registry.replicas()])
    wanted = {one.replica_id for one in desired.all()}
    assert name == "type" or "r-2" in wanted
    for one in ("r-1", "r-2"):
        documented(lambda one=one: desired.get("n", "cpu0", one))
    desired.wake(MODEL)
    Footprints(client).get(DEVICE, MODEL), Footprints(client).known([DEVICE]), Durations(client).expected(MODEL)
    log.read(), read_stats(client, [MODEL], now_ms=store.clock.now_ms())
    assert good.id in {key.id for key in Credentials(client).list()}
    with contextlib.suppress(HeadraceError):
        Credentials(client).authenticate(secret)
    now = datetime.datetime.now(datetime.UTC)
    store.ledger.report([good.id, record.id], start=now - datetime.timedelta(days=1), end=now)
    keeper.round()
    good_job_is_served(store)


ANYTHING = strategies.recursive(
    VALUES
    | strategies.binary(max_size=4)
    | strategies.floats()
    | strategies.characters(categories=["Cs"])
    | strategies.sampled_from([object(), {1, 2}, 2**100, -(2**80), 10**400]),
    lambda inner: strategies.lists(inner, max_size=3) | strategies.dictionaries(_TEXTS | _NUMBERS, inner, max_size=3),
    max_leaves=8,
)


@budget()
@given(value=ANYTHING)
def test_what_is_written_can_be_read(value: Any) -> None:
    try:
        text = dumps(value)
    except Unwritable:
        return
    text.encode()
    assert dumps(loads(text)) == text
