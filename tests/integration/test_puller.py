"""A replica asks for its jobs over a real Redis: what it takes back and holds, and when Redis tells it of new ones."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import redis

from gateway.jobs.record import Cause, Job, JobState, new_job_id
from gateway.jobs.store import JobStore, Room
from gateway.models.catalog import load_catalog
from gateway.scheduling.lines import OUTPUT_COST, Lines
from gateway.settings import Settings
from gateway.store import keys
from gateway.store.codec import Unwritable
from gateway.store.connection import NOT_NOW
from tests.interleavings.processes import Surroundings
from tests.interleavings.replica import SLOTS, StillReplica
from workers.engines.base import SequenceRequest
from workers.replica.puller import SHORT_PROMPT

CATALOG = """
{"other": {"name": "Other", "description": "x", "version": "1", "capabilities": ["chat"], "engine": "fake",
"context_length": 100000, "max_tokens": 100000}}
"""


class Replica(StillReplica):
    """One whose engine makes a token when it is told to."""

    def add(
        self, *, key: str = "a", background: bool = False, n: int = 1, pinned: bool = False, prompt_cost: int = 1
    ) -> str:
        """A job that waits; pinned: in no line."""
        request = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 100, "n": n}
        job = Job(new_job_id("chat"), JobState.QUEUED, "chat", "fake", key, request, background=background, slots=n)
        job = replace(job, prompt_cost=prompt_cost)
        return self.store.create(job, ttl_ms=60_000, room=Room(), pinned=pinned).job.id

    def ask(self) -> None:
        self._puller._step()

    @property
    def jobs(self) -> set[str]:
        """Those that it holds."""
        return {run.id for run in self.journaler.held}

    def wakes(self) -> bool:
        """Whether Redis would tell it of a new job."""
        return self.store.redis.zscore(keys.openings("fake"), self.queue) is not None


@pytest.fixture
def around(settings: Settings) -> Surroundings:
    settings = replace(settings, models_json=CATALOG, demo_model="")
    around = Surroundings(settings, load_catalog(settings))
    around.connect_queues()
    return around


@pytest.fixture
def replica(around: Surroundings, redis_client: redis.Redis) -> Replica:
    return Replica("w.1", "one", around, JobStore(redis_client))


def test_free_slots_count_before_any_is_taken_back(replica: Replica) -> None:
    """One of two interactive jobs gets the free slot, the other that of a background job."""
    background = [replica.add(background=True) for _ in range(SLOTS - 1)]
    replica.ask()
    interactive = {replica.add(), replica.add()}
    replica.ask()
    assert interactive < replica.jobs
    assert len(replica.jobs & set(background)) == 1
    assert sum(replica.slots_held().values()) == SLOTS


def test_a_job_that_it_is_told_to_take_holds_all_its_slots(replica: Replica) -> None:
    job = replica.add(n=2, pinned=True)
    replica.generate(job)
    replica.ask()
    assert replica.jobs == {job}
    assert list(replica.slots_held().values()) == [2]


def test_a_slot_that_becomes_free_while_it_asks_makes_it_ask_again(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis was told that none is free, so that it would not be told of the next job."""
    replica.add()
    replica.ask()
    (run,) = replica.journaler.held
    for _ in range(SLOTS - 1):
        replica.add()
    asking = Lines.next_jobs

    def slowly(*args: Any) -> Any:
        offers = asking(*args)
        replica.journaler.drop(run)
        return offers

    monkeypatch.setattr(Lines, "next_jobs", slowly)
    replica.ask()
    assert not replica.wakes()
    assert replica._puller._woken.is_set()


@pytest.mark.parametrize("others", [0, 1])
def test_where_jobs_come_fast_it_asks_again_by_itself_if_no_other_replica_is_told(
    replica: Replica, monkeypatch: pytest.MonkeyPatch, others: int
) -> None:
    """It would take what the others were told of, before they have heard of it."""
    monkeypatch.setattr("workers.replica.puller.BUSY_S", 3600.0)
    for one in range(others + 1):
        record = replace(replica.heartbeat.record, incarnation=f"w.{one}", replica_id=f"r.{one}")
        replica.registry.heartbeat(record, lease_s=10)
    for _ in range(2):
        replica.add()
        replica.ask()
    assert replica._puller._is_busy is (others == 0)
    replica.add()
    replica.ask()
    assert len(replica.jobs) == SLOTS


def test_background_jobs_keep_back_while_others_are_there_and_get_all_slots_again(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each sequence makes a step of this engine longer by what the first one takes."""
    replica.engine.step_times = (0.0, 0.01)
    background = {replica.add(background=True) for _ in range(SLOTS + 1)}
    replica.ask()
    assert replica.jobs < background
    assert len(replica.jobs) == SLOTS, "nobody else is there"
    interactive = replica.add()
    replica.ask()
    assert interactive in replica.jobs
    assert len(replica.jobs & background) == 1, "no slot is lacking, but steps are shorter"
    replica.ask()
    assert len(replica.jobs) == 2
    replica.journaler.drop(next(run for run in replica.journaler.held if run.id == interactive))
    assert replica._puller._woken.is_set(), "it has to look, though Redis would tell it of new jobs"
    replica.ask()
    assert len(replica.jobs) == 1, "they may come again"
    monkeypatch.setattr("gateway.scheduling.policy.PRESENT_S", 1e-6)
    replica.ask()
    assert len(replica.jobs) == SLOTS


def test_a_key_keeps_back_while_others_are_there(replica: Replica) -> None:
    replica.engine.step_times = (0.0, 0.01)
    flood = {replica.add(key="flood") for _ in range(2 * SLOTS)}
    replica.ask()
    assert len(replica.jobs) == SLOTS
    other = replica.add(key="b")
    replica.ask()
    assert other in replica.jobs
    assert len(replica.jobs & flood) == 1
    (run,) = (run for run in replica.journaler.held if run.id == other)
    replica.journaler.drop(run)
    replica.ask()
    assert len(replica.jobs) == 1, "the slots stay free for the other key"


def test_sequences_of_background_jobs_and_of_a_key_that_floods_yield_in_the_engine(replica: Replica) -> None:
    jobs = [replica.add(key="b")]
    replica.ask()
    jobs += [replica.add(background=True)]
    replica.ask()
    assert [run.yields for run in sorted(replica.journaler.held, key=lambda run: jobs.index(run.id))] == [False, True]
    assert all(request.yields for run in replica.journaler.held if run.yields for request in run.requests(1))


def test_tokens_that_were_made_while_redis_was_away_are_charged_later(replica: Replica) -> None:
    """Else their key would be served more than its part."""
    replica.add()
    replica.ask()
    (run,) = replica.journaler.held
    prompt = replica.store.redis.zscore(f"{keys.lines('fake')}:interactive:served", "a")
    replica._puller.count(run, 5)
    replica.store.redis.config_set("min-replicas-to-write", 1)
    with pytest.raises(NOT_NOW):
        replica.ask()
    replica._puller.count(run, 2)
    replica.store.redis.config_set("min-replicas-to-write", 0)
    for _ in range(2):
        replica.ask()
    served = replica.store.redis.zscore(f"{keys.lines('fake')}:interactive:served", "a")
    assert served - prompt == pytest.approx(OUTPUT_COST * (5 + 2))


def test_while_its_engine_is_away_it_is_told_of_nothing(replica: Replica) -> None:
    replica.ask()
    assert replica.wakes()
    replica._puller._is_busy = True
    replica.engine.ready.clear()
    replica.ask()
    assert not replica.wakes()
    assert not replica._puller._is_busy, "nor does it ask 250 times a second"


@pytest.fixture
def frames(replica: Replica, monkeypatch: pytest.MonkeyPatch) -> list[list[SequenceRequest]]:
    """What the engine was sent."""
    seen: list[list[SequenceRequest]] = []
    submit = replica.engine.submit

    def noted(requests: Sequence[SequenceRequest]) -> None:
        submit(requests)
        seen.append(list(requests))

    monkeypatch.setattr(replica.engine, "submit", noted)
    return seen


def of_jobs(frame: Sequence[SequenceRequest]) -> set[str]:
    """The jobs whose sequences these are."""
    return {request.key.partition("/")[0] for request in frame}


def test_short_jobs_that_are_offered_together_reach_the_engine_in_one_frame(
    replica: Replica, frames: list[list[SequenceRequest]]
) -> None:
    jobs = [replica.add() for _ in range(SLOTS)]
    replica.ask()
    assert [of_jobs(frame) for frame in frames] == [set(jobs)]


def test_a_long_prompt_keeps_no_other_waiting(replica: Replica, frames: list[list[SequenceRequest]]) -> None:
    first, long, last = replica.add(), replica.add(prompt_cost=SHORT_PROMPT + 1), replica.add()
    replica.ask()
    assert [of_jobs(frame) for frame in frames] == [{first, last}, {long}]


def test_of_jobs_that_are_offered_together_one_that_can_not_be_begun_holds_no_slot(replica: Replica) -> None:
    jobs = [replica.add() for _ in range(SLOTS)]
    replica.store.redis.hset(keys.job(jobs[1]), "request", "{")
    replica.ask()
    assert replica.jobs == {jobs[0], jobs[2]}
    assert sorted(replica.slots_held().values()) == [1, 1]


def test_of_jobs_that_are_passed_together_one_that_can_not_be_written_ends_alone(
    replica: Replica, frames: list[list[SequenceRequest]], monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [replica.add() for _ in range(SLOTS)]
    submit = replica.engine.submit

    def strict(requests: Sequence[SequenceRequest]) -> None:
        if jobs[1] in of_jobs(requests):
            raise Unwritable("so odd is it")
        submit(requests)

    monkeypatch.setattr(replica.engine, "submit", strict)
    replica.ask()
    assert sorted(map(of_jobs, frames), key=min) == sorted([{jobs[0]}, {jobs[2]}], key=min)
    assert replica.jobs == {jobs[0], jobs[2]}
    record = replica.store.read(jobs[1])
    assert record is not None
    assert record.error["reason"] == "internal_error"
    assert sorted(replica.slots_held().values()) == [1, 1]


def test_an_engine_that_dies_gives_back_all_that_were_passed_together(
    replica: Replica, frames: list[list[SequenceRequest]]
) -> None:
    jobs = {replica.add() for _ in range(SLOTS)}
    replica.engine._process.dead = True
    replica.ask()
    assert replica.jobs == set()
    assert replica.slots_held() == {}
    replica.engine._process.dead = False
    replica.ask()
    assert replica.jobs == jobs


def test_what_nobody_prepares_any_more_holds_no_slot(replica: Replica) -> None:
    """At the end of a process its threads take nothing."""
    replica.add()
    replica._puller._preparers = ThreadPoolExecutor(1)
    replica._puller._preparers.shutdown()
    replica.ask()
    assert replica.slots_held() == {}


def test_the_heartbeat_says_how_many_slots_background_jobs_get(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While some wait, those that they hold; else what the others leave, and their share in any case."""
    now_s = 0.0
    monkeypatch.setattr("workers.replica.puller.time.monotonic", lambda: now_s)
    replica.engine.step_times = (0.0, 0.0)

    def gets() -> float:
        """In the long run, if all stays as it is."""
        nonlocal now_s
        replica._puller.figures()
        now_s += 1_000
        return replica._puller.figures()["background_gets"]

    assert gets() == SLOTS
    for _ in range(SLOTS - 1):
        replica.add()
    replica.ask()
    assert gets() == 1, "what the others leave"
    replica.add()
    replica.ask()
    assert gets() == pytest.approx(replica.settings.background_share * SLOTS), "their share, of a full batch"
    for run in replica.journaler.held[:2]:
        replica.journaler.drop(run)
    for _ in range(4):
        replica.add(background=True)
    replica.ask()
    replica._puller._engine.ready.clear()
    now_s += 1_000
    assert replica._puller.figures()["background_gets"] < 1, "nobody gets anything while the engine is away"
    replica._puller._engine.ready.set()
    assert gets() == 2
    assert replica._puller.figures()["gets"] == SLOTS, "no interactive job waits"
    replica.engine.step_times = (0.0, 1.0)
    replica.ask()
    replica.journaler.release([run for run in replica.journaler.held if run.job.background], Cause.GIVEN_BACK)
    replica.store.redis.delete(*replica.store.redis.keys(f"{keys.lines('fake')}:*"))
    assert gets() == 1, "nobody waits, and one more would not make steps too long"


def test_what_a_replica_that_leaves_has_not_begun_to_claim_is_offered_to_the_next_that_asks(
    replica: Replica, around: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, not when its offers have ended."""
    monkeypatch.setattr(replica._puller._loop, "join", lambda timeout_s: None)  # it has no thread
    busy = threading.Event()
    replica._puller._preparers = ThreadPoolExecutor(1)
    replica._puller._preparers.submit(busy.wait)
    jobs = {replica.add() for _ in range(SLOTS)}
    replica.ask()
    other = Replica("w.2", "two", around, JobStore(replica.store.redis))
    other.ask()
    assert other.jobs == set(), "they are offered to the first"
    replica._puller.close()
    busy.set()
    other.ask()
    assert other.jobs == jobs
