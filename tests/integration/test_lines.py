"""The lines of a model over a real Redis: who is next, whom an offer goes to, and what a crash in between loses."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from dataclasses import dataclass, replace

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.cluster.registry import Registry, Replica
from gateway.jobs.events import Append
from gateway.jobs.record import Cause, Job, JobState, new_claim_id, new_job_id
from gateway.jobs.store import Created, Ended, JobStore, Room
from gateway.queue.names import wake_queue
from gateway.scheduling.lines import OFFER_MS, Lines, Offer, Wish
from gateway.store import keys

ANY = Room()
WISH = Wish("replica.one", total=8, free=8)


class Queue:
    """A model's queue, with a replica that asks for jobs and claims them."""

    def __init__(self, client: redis.Redis) -> None:
        self.store = JobStore(client)
        self.lines = Lines(client, self.store.scripts)
        self.redis = client
        self.names: dict[str, str] = {}

    def add(self, name: str, key: str = "a", room: Room = ANY, model: str = "m", **fields: object) -> Created:
        fields = {"prompt_cost": 10, "request": {"messages": []}, "created_at": 10**12 + len(self.names), **fields}
        job = Job(new_job_id("chat"), JobState.QUEUED, "chat", model, key, **fields)  # type: ignore[arg-type]
        self.names[job.id] = name
        created = self.store.create(job, ttl_ms=60_000, room=room)
        if created.retry_ms:
            self.store.discard(job)
        return created

    def ask(self, **wish: object) -> list[str]:
        return [self.names[offer.job_id] for offer in self.offers(**wish)]

    def offers(self, **wish: object) -> list[Offer]:
        return self.lines.next_jobs("m", replace(WISH, **wish))  # type: ignore[arg-type]

    def take(self, **wish: object) -> list[Job]:
        """Ask, and claim what is offered."""
        claims = (
            self.store.claim(offer.job_id, model="m", owner="w", claim=new_claim_id()) for offer in self.offers(**wish)
        )
        return [job for job in claims if job]

    def charge(self, key: str, tokens: float) -> None:
        assert self.lines.next_jobs("m", replace(WISH, free=0), {(False, key): tokens}) == []

    def left(self) -> set[str]:
        """Keys of the lines that hold anything but counters."""
        held = self.redis.keys(f"{keys.lines('m')}*")
        return {str(name).removeprefix(keys.lines("m") + ":") for name in held if not str(name).endswith("served")}


@pytest.fixture
def queue(redis_client: redis.Redis) -> Queue:
    return Queue(redis_client)


def test_background_jobs_hold_no_more_slots_than_they_may(queue: Queue) -> None:
    for name in ("b1", "b2", "b3", "b4"):
        queue.add(name, background=True)
    assert queue.ask(background_held=3, background_most=3) == []
    assert queue.ask(background_held=3, background_most=3, owed=1) == ["b1"], "their share is owed"
    assert queue.ask(background_held=1, background_most=3) == ["b2", "b3"]
    queue.add("i")
    assert queue.ask(background_held=3, background_most=3) == ["i"]


def test_a_job_that_needs_more_slots_than_it_may_hold_is_taken_where_there_is_none_of_its_like(queue: Queue) -> None:
    queue.add("wide", background=True, slots=6)
    queue.add("narrow", background=True)
    assert queue.ask(background_held=1, background_most=3) == [], "it is waited for"
    assert queue.ask(background_held=0, background_most=3) == ["wide"]


def test_a_key_that_holds_all_slots_that_it_may_is_passed_by_others(queue: Queue) -> None:
    for name in ("a1", "a2"):
        queue.add(name, key="a")
    queue.add("b", key="b")
    queue.charge("b", 1000)
    assert queue.ask(held={"a": 4}, key_most=4) == ["b"]
    assert queue.ask(held={"a": 3}, key_most=4) == ["a1"]
    assert queue.ask(held={"a": 4}) == ["a2"]


def test_of_replicas_with_as_many_free_slots_the_one_that_has_asked_first_is_told(queue: Queue) -> None:
    for replica in ("replica.b", "replica.c", "replica.a"):
        queue.ask(queue=replica)
        time.sleep(0.002)
    queue.ask(queue="replica.d", free=7)
    told = [queue.add(name).wakes for name in ("1", "2", "3", "4", "5")]
    assert told == ["replica.b", "replica.c", "replica.a", "replica.d", ""]


def test_interactive_before_background_and_each_in_order_of_age(queue: Queue) -> None:
    for name in ("b1", "b2"):
        queue.add(name, background=True)
    for name in ("i1", "i2"):
        queue.add(name)
    assert queue.ask() == ["i1", "i2", "b1", "b2"]
    assert queue.ask() == []


class Several(Queue):
    """The queues of three models, with one worker that takes jobs one by one."""

    MODELS = ("m", "n", "o")

    def __init__(self, client: redis.Redis) -> None:
        super().__init__(client)
        self.served: dict[str, str] = {}

    def next(self, **wish: object) -> str:
        wish = {"total": 1, "free": 1, "served": self.served, **wish}
        offers = self.lines.next_of(self.MODELS, replace(WISH, **wish), {})  # type: ignore[arg-type]
        self.served |= {offer.line: offer.model for offer in offers}
        return " ".join(self.names[offer.job_id] for offer in offers)


@pytest.fixture
def several(redis_client: redis.Redis) -> Several:
    return Several(redis_client)


def test_interactive_jobs_of_any_model_come_before_background_jobs_of_all(several: Several) -> None:
    several.add("m-background", model="m", background=True)
    several.add("o-interactive", model="o")
    several.add("n-background", model="n", background=True)
    several.add("o-lost", model="o")
    lost = several.store.claim(
        next(i for i, name in several.names.items() if name == "o-lost"), model="o", owner="w", claim="c"
    )
    assert lost
    several.store.release(lost, Cause.LOST)
    assert [several.next() for _ in range(5)] == ["o-lost", "o-interactive", "m-background", "n-background", ""]


@pytest.mark.parametrize("background", [False, True])
def test_models_take_turns(several: Several, background: bool) -> None:
    for model, count in (("m", 4), ("n", 1), ("o", 2)):
        for i in range(count):
            several.add(f"{model}{i}", model=model, background=background)
    assert [several.next() for _ in range(4)] == ["m0", "n0", "o0", "m1"]
    assert several.next(free=3) == "o1 m2 m3"


def test_a_model_that_has_both_gets_its_turn_with_background_jobs_too(several: Several) -> None:
    """Their turns do not depend on those of interactive jobs."""
    for i in range(4):
        several.add(f"m-b{i}", model="m", background=True)
        several.add(f"n-b{i}", model="n", background=True)
    for i in range(8):
        several.add(f"m{i}", model="m")
    order = [several.next(owed=int(i % 3 == 2)) for i in range(9)]
    assert order == ["m0", "m1", "m-b0", "m2", "m3", "n-b0", "m4", "m5", "m-b1"]


def test_a_worker_of_several_models_is_told_of_each_until_it_is_full(several: Several) -> None:
    assert several.next() == ""
    assert [several.add(model, model=model).wakes for model in several.MODELS] == [WISH.queue] * 3
    assert several.add("again").wakes == "", "it was told, and has not asked yet"
    assert several.next() == "m"
    assert [several.add(f"{model}2", model=model).wakes for model in several.MODELS] == [""] * 3


def test_charges_count_for_the_model_that_made_the_tokens(several: Several) -> None:
    for model in ("m", "n"):
        several.add(f"{model}-a", key="a", model=model)
        several.add(f"{model}-b", key="b", model=model)
    several.lines.next_of(several.MODELS, replace(WISH, free=0), {"n": {(False, "a"): 500.0}})
    assert several.next(total=9, free=9) == "m-a n-b m-b n-a"


def test_a_job_that_has_lost_its_worker_is_first_and_a_preempted_one_waits_where_it_did(queue: Queue) -> None:
    queue.add("lost")
    (lost,) = queue.take(free=1)
    queue.add("preempted", background=True)
    (preempted,) = queue.take(free=1)
    queue.add("interactive")
    queue.add("background", background=True)
    assert queue.store.release(lost, Cause.LOST) == ("",)
    assert queue.store.release(preempted, Cause.PREEMPTED) == ("",)
    assert queue.ask() == ["lost", "interactive", "preempted", "background"]
    again = queue.store.read(preempted.id)
    assert again and (again.preemptions, again.crashes, again.losses) == (1, 0, 0)


def test_keys_are_served_by_their_tokens_and_not_by_their_jobs(queue: Queue) -> None:
    for i in range(4):
        queue.add(f"long{i}", key="a", prompt_cost=300)
    for i in range(8):
        queue.add(f"short{i}", key="b", prompt_cost=100)
    assert queue.ask(total=100, free=100) == [
        *("long0", "short0", "short1", "short2"),
        *("long1", "short3", "short4", "short5"),
        *("long2", "short6", "short7", "long3"),
    ]


def test_a_flood_of_one_key_keeps_no_other_waiting(queue: Queue) -> None:
    for i in range(100):
        queue.add(f"a{i}", key="a")
    assert queue.ask() == [f"a{i}" for i in range(8)]
    queue.add("b0", key="b")
    assert queue.ask(free=2) == ["b0", "a8"], "a key that comes is lifted to the others, and is the next"
    queue.charge("a", 500.0)
    queue.add("b1", key="b")
    assert queue.ask(free=2) == ["b1", "a9"]


#: A key's job with tokens of its prompt, or a start, with tokens of the answer. Both over the weight of the key.
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from("abcd"), st.integers(1, 300)),
        st.tuples(st.just(""), st.integers(0, 300)),
    ),
    max_size=60,
)


@dataclass
class Waiting:
    """A job, what each key had been served when it came, and keys that have begun to wait since."""

    key: str
    prompt: int
    served: Counter[str]
    joins: int


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(steps=STEPS)
def test_a_job_waits_for_no_more_of_another_key_than_the_page_says(queue: Queue, steps: list[tuple[str, int]]) -> None:
    queue.redis.flushdb()
    served: Counter[str] = Counter()
    waiting: dict[str, Waiting] = {}
    joins, most = 0, 0

    def start(output: int) -> None:
        nonlocal most
        (name,) = queue.ask(free=1)
        job = waiting.pop(name)
        for other in set("abcd") - {job.key}:
            since = served - job.served
            assert since[other] <= since[job.key] + 2 * most + (joins - job.joins) / 2
        served[job.key] += job.prompt + output
        most = max(most, job.prompt + output)
        queue.charge(job.key, output)

    for i, (key, tokens) in enumerate(steps):
        if key:
            joins += key not in {job.key for job in waiting.values()}
            waiting[str(i)] = Waiting(key, tokens, served.copy(), joins)
            queue.add(str(i), key=key, prompt_cost=tokens)
        elif waiting:
            start(tokens)
    while waiting:
        start(100)


def test_what_a_key_did_not_use_is_not_saved_up(queue: Queue) -> None:
    queue.add("b0", key="b")
    for i in range(20):
        queue.add(f"a{i}", key="a")
    queue.ask(total=20, free=11)
    for i in range(1, 6):
        queue.add(f"b{i}", key="b")
    assert queue.ask(free=6) == ["b1", "a10", "b2", "a11", "b3", "a12"]


def test_a_job_that_needs_more_slots_than_are_free_is_waited_for(queue: Queue) -> None:
    queue.add("wide", slots=6)
    queue.add("narrow")
    queue.add("background", background=True)
    assert queue.ask(free=4) == []
    assert queue.ask(free=7) == ["wide", "narrow"]
    queue.add("wider than the batch", slots=100)
    assert queue.ask(free=7) == []
    assert queue.ask(free=8) == ["wider than the batch"]


def test_a_job_waits_for_room_in_the_cache_but_one_that_never_fits_gets_an_empty_engine(queue: Queue) -> None:
    queue.add("long", most_tokens=5_000)
    queue.add("short", most_tokens=10)
    assert queue.ask(free=7, room=1_000) == []
    assert queue.ask(free=7, room=1_000, answer=100) == ["long", "short"], "its answer is expected to be shorter"
    queue.add("longer", most_tokens=5_000)
    assert queue.ask(free=8, room=1_000) == ["longer"]


def test_slots_are_taken_back_for_those_whom_somebody_waits_for(queue: Queue) -> None:
    queue.add("background", background=True)
    for i in range(3):
        queue.add(f"i{i}")
    offers = queue.offers(free=1, background=1)
    assert [(queue.names[offer.job_id], offer.takes_back) for offer in offers] == [("i0", False), ("i1", True)]


def test_a_key_without_slots_takes_one_from_a_key_that_holds_many(queue: Queue) -> None:
    queue.add("more of a", key="a")
    held = {"a": 8}
    assert queue.ask(free=0, crowded=1, held=held) == []
    queue.add("b", key="b")
    queue.charge("a", 500.0)
    assert queue.ask(free=0, crowded=1, held=held) == ["b"]


def test_a_background_job_comes_first_where_its_share_is_owed(queue: Queue) -> None:
    for name in ("i0", "i1"):
        queue.add(name)
    for name in ("b0", "b1"):
        queue.add(name, background=True)
    assert queue.ask(free=2, owed=1) == ["b0", "i0"]


def test_a_suspect_is_offered_only_to_who_asks(queue: Queue) -> None:
    queue.add("suspect")
    for _ in range(2):
        (job,) = queue.take(free=1)
        queue.store.release(job, Cause.CRASHED)
    queue.add("other")
    assert queue.ask(quarantined=False) == ["other"]
    queue.add("another")
    assert queue.ask() == ["suspect", "another"]


def test_an_offer_that_is_not_claimed_stands_again(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """The replica may have died between the two scripts."""
    queue.add("job")
    monkeypatch.setattr("gateway.scheduling.lines.OFFER_MS", 0)
    assert queue.ask() == ["job"]
    monkeypatch.setattr("gateway.scheduling.lines.OFFER_MS", OFFER_MS)
    assert queue.ask() == ["job"], "and whoever asks next gets it"
    assert queue.ask() == []


def test_nothing_is_left_in_the_lines_of_jobs_that_run_or_have_ended(queue: Queue) -> None:
    for i in range(3):
        queue.add(f"i{i}")
        queue.add(f"b{i}", background=True)
    first, second, *_ = queue.take()
    queue.store.journals.append([Append(first.id, first.claim, 1, ['{"type":"done"}'], JobState.DONE)])
    queue.store.finalize(Ended(first, JobState.DONE, {}))
    waiting = queue.add("cancelled").job
    queue.store.end(waiting, JobState.CANCELLED, {"type": "cancelled", "c": "x"})
    queue.store.discard(queue.add("discarded").job)
    assert queue.store.release(second, Cause.GIVEN_BACK)
    assert [job.id for job in queue.take()] == [second.id]
    assert queue.left() <= {"openings", "offered"}


def test_a_replica_with_free_slots_is_told_of_the_next_job_and_only_once(queue: Queue) -> None:
    assert queue.add("before anybody asked").wakes == ""
    queue.ask()
    assert queue.add("first").wakes == "replica.one"
    assert queue.add("second").wakes == "", "it will take both when it asks"
    assert queue.ask() == ["first", "second"]
    queue.ask(free=0)
    assert queue.add("third").wakes == "", "it asks when a slot is free"


def test_a_full_replica_is_told_where_it_can_take_slots_back(queue: Queue) -> None:
    queue.ask(free=0, background=2)
    assert queue.add("background", background=True).wakes == ""
    assert queue.add("interactive").wakes == "replica.one"


def test_the_replica_with_the_most_free_slots_is_told(queue: Queue) -> None:
    queue.ask(free=2)
    queue.ask(queue="replica.two", free=5)
    assert queue.add("first").wakes == "replica.two"
    assert queue.add("second").wakes == "replica.one"
    queue.ask()
    queue.lines.close("m", "replica.one")
    assert queue.add("third").wakes == ""


def test_positions_are_those_in_which_jobs_are_served(queue: Queue) -> None:
    for i in range(3):
        queue.add(f"a{i}", key="a")
    jobs = [queue.add(name, key=key).job for name, key in (("b0", "b"), ("b1", "b"))]
    background = queue.add("background", background=True).job
    assert queue.store.indexes.positions([*jobs, background]) == [2, 4, 6]
    queue.ask(free=1)
    assert queue.store.indexes.positions([*jobs, background]) == [2, 4, 5]
    (taken,) = (offer for offer in queue.take(free=1))
    assert queue.store.indexes.position(taken.id, "m") == 0


def test_a_flood_takes_the_room_of_its_own_key_only(queue: Queue) -> None:
    room = Room(last=5, per_second=1.0)
    added = [queue.add(f"a{i}", key="a", room=room) for i in range(7)]
    assert [created.retry_ms > 0 for created in added] == [False] * 5 + [True] * 2
    assert not queue.add("b0", key="b", room=room).retry_ms
    assert queue.ask() == ["a0", "b0", "a1", "a2", "a3", "a4"]


def test_refused_clients_are_told_different_times_and_are_taken_when_they_come_back(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = Room(last=2, per_second=4.0)
    for i in range(2):
        queue.add(f"a{i}", room=room)
    waits, due = [], []
    for i in range(4):
        asked = time.monotonic()
        waits.append(queue.add(f"refused{i}", room=room, request={"messages": [str(i)]}).retry_ms)
        due.append((1000 * asked + waits[i], 1000 * time.monotonic() + waits[i]))  # at the earliest, and at the latest
    assert all(after - before >= 249 for (before, _), (_, after) in itertools.pairwise(due)), due
    queue.take()
    new = [queue.add(f"new{i}", room=room, request={"messages": [f"new{i}"]}).retry_ms > 0 for i in range(2)]
    assert new == [False, True], "there is room for one until the first comes back"
    time.sleep(waits[0] / 1000)
    back = [queue.add(f"back{i}", room=room, request={"messages": [str(i)]}).retry_ms for i in range(2)]
    assert back[0] == 0


#: All keys of a model's lines, by what they are called.
LINE_KEYS = (
    *("first", "quarantined", "offered", "openings"),
    *(f"{line}{part}" for line in ("interactive", "background") for part in ("", ":keys", ":served")),
    *("promises:interactive", "promises:background"),
)
#: Members that are none.
ODD = ("", "x", "a|b|c", "a|1|1|1|1|gone", "|" * 20, "a|0000000000001|-1|0|0|x", "interactive:", ":", "xyz:a|1|1|1|1|x")


@pytest.mark.parametrize("name", LINE_KEYS)
@pytest.mark.parametrize("kind", ["set", "lpush"])
def test_what_is_of_a_wrong_type_goes_and_who_waits_is_served(queue: Queue, name: str, kind: str) -> None:
    """Whatever a script finds there, it does its work, and no job is lost."""
    job = queue.add("interactive").job
    queue.add("background", background=True)
    queue.add("elsewhere", model="other")

    def spoil() -> None:
        queue.redis.delete(key := f"{keys.lines('m')}:{name}")
        getattr(queue.redis, kind)(key, "x")

    spoil()
    queue.add("after", room=Room(last=100, per_second=1.0))
    spoil()
    queue.add("refused", room=Room(last=1, per_second=1.0))
    spoil()
    assert queue.store.indexes.position(job.id, "m") >= 0
    spoil()
    queue.store.discard(queue.add("discarded").job)
    spoil()
    queue.charge("a", 1.0)
    spoil()
    taken = queue.take()
    spoil()
    waiting = [job_id for job_id, about in queue.names.items() if about in ("interactive", "background", "after")]
    queue.store.indexes.track_waiting(waiting, "m")  # as a keeper does with all who wait
    spoil()
    queue.store.indexes.track_waiting(waiting, "m")
    taken += queue.take()
    assert sorted(queue.names[one.id] for one in taken) == ["after", "background", "interactive"]
    assert [queue.names[offer.job_id] for offer in queue.lines.next_jobs("other", WISH)] == ["elsewhere"]


@pytest.mark.parametrize("name", LINE_KEYS)
@pytest.mark.parametrize("score", [0, 5])
def test_odd_members_keep_nobody_waiting(queue: Queue, name: str, score: int) -> None:
    waiting = [queue.add("background", background=True).job.id]
    queue.redis.zadd(f"{keys.lines('m')}:{name}", dict.fromkeys(ODD, score))
    waiting.append(queue.add("interactive").job.id)
    queue.store.indexes.track_waiting(waiting, "m")
    asked = [queue.names.get(offer.job_id) for _ in range(4) for offer in queue.offers()]
    assert {"background", "interactive"} <= set(asked)


def test_odd_fields_of_a_record_are_no_reason_to_wait(queue: Queue) -> None:
    odd = {"key_id": "a|b", "slots": "-3", "prompt_cost": "9" * 30, "most_tokens": "-1", "created_at": "-7"}
    for field, value in odd.items():
        job = queue.add(field).job
        queue.store.discard(job)
        queue.redis.hset(keys.job(job.id), mapping={"state": "queued", "model": "m", "key_id": "a", field: value})
        queue.store.indexes.track_waiting([job.id], "m")
        assert queue.ask() == [field]


def test_a_job_that_has_lost_its_worker_and_is_preempted_waits_where_it_did(queue: Queue) -> None:
    """Else it would take the slot again that it has given, and again."""
    queue.add("background", background=True)
    (job,) = queue.take(free=1)
    queue.store.release(job, Cause.LOST)
    queue.add("interactive")
    (again,) = queue.take(free=1)
    queue.store.release(again, Cause.PREEMPTED)
    assert queue.ask() == ["interactive", "background"]


def test_an_offer_that_has_ended_stands_where_the_record_says(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("handed over", "suspect"):
        queue.add(name)
    monkeypatch.setattr("gateway.scheduling.lines.OFFER_MS", 0)
    handed, suspect = queue.offers(free=2)
    queue.redis.hset(keys.job(handed.job_id), "route", "other")
    queue.redis.hset(keys.job(suspect.job_id), "crashes", 2)
    monkeypatch.setattr("gateway.scheduling.lines.OFFER_MS", OFFER_MS)
    assert queue.ask(quarantined=False) == []
    assert queue.ask() == ["suspect"]
    assert queue.left() <= {"openings", "offered"}


def test_a_claim_whose_lines_were_not_told_leaves_no_second_place(queue: Queue) -> None:
    """A worker of an older version was killed between the scripts of a claim, and somebody else gives the job back."""
    job = queue.add("job").job
    queue.offers()
    queue.redis.hset(keys.job(job.id), mapping={"state": "running", "owner": "w", "claim": "c"})
    claimed = queue.store.read(job.id)
    assert claimed and queue.store.release(claimed, Cause.LOST)
    assert queue.ask() == ["job"]
    assert queue.redis.zcard(f"{keys.lines('m')}:offered") == 1


def test_a_replica_that_is_gone_is_told_of_nothing(queue: Queue) -> None:
    registry = Registry(queue.redis)
    registry.heartbeat(Replica("r1:1", "r1", "m", "n", "cpu0", "active", 1), lease_s=5)
    queue.ask(queue=wake_queue("r1"))
    registry.deregister("r1:1")
    assert queue.add("job").wakes == ""


def test_an_offer_that_would_never_end_is_none(queue: Queue) -> None:
    """Redis' clock was put back by an hour since it was made."""
    job = queue.add("job").job
    queue.ask()
    for offered in queue.redis.zrange(offers := f"{keys.lines('m')}:offered", 0, -1):
        queue.redis.zadd(offers, {offered: queue.store.clock.now_ms() + 3_600_000})
    queue.store.indexes.track_waiting([job.id], "m")
    assert queue.ask() == ["job"]


@pytest.mark.parametrize("counter", ["inf", "-inf", "1e300"])
def test_a_counter_that_no_charge_can_change_counts_as_none(queue: Queue, counter: str) -> None:
    queue.redis.zadd(f"{keys.lines('m')}:interactive:served", {"a": counter, "": counter})
    for i in range(4):
        queue.add(f"a{i}", key="a")
        queue.add(f"b{i}", key="b")
    assert queue.ask() == ["a0", "b0", "a1", "b1", "a2", "b2", "a3", "b3"]


def test_counters_of_keys_are_forgotten_when_nothing_happens_for_long(queue: Queue) -> None:
    queue.add("job")
    queue.ask()
    queue.charge("b", 5.0)
    assert 0 < queue.redis.pttl(f"{keys.lines('m')}:interactive:served") <= 3_600_000
