"""Jobs that wait in lines while replicas, Redis, keepers and messages fail: each ends, whole, and none is run twice."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import pytest

from gateway.cluster.registry import Replica
from gateway.jobs.events import Event, EventType
from gateway.jobs.record import Job
from gateway.queue.names import lists, model_queue, wake_queue
from gateway.settings import Settings
from gateway.store import keys
from gateway.views.timeline import read_timeline
from tests.faults.conftest import TIMES
from tests.faults.proxy import SwallowingProxy
from tests.stack import Stack, Stream, chat, eventually, running, stop
from workers.engines.fake import fake_token

#: More streams than both replicas have slots, so that some wait.
STREAMS, SLOTS, TOKENS = 16, 3, 50
BEHIND = "cpu1"


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stack, SwallowingProxy, Settings]]:
    """Two replicas, one of which reaches Redis through a proxy."""
    folder = tmp_path_factory.mktemp("s")
    with running(folder, {"fake": {"step_s": 0.01}}, grace_s=10.0, lease_s=4.0, max_batch_size=SLOTS) as stack:
        proxy = SwallowingProxy(str(stack.socket))
        settings = replace(stack.settings, redis_url=proxy.url, device=BEHIND)
        stack.put("fake", {"step_s": 0.01}, settings)
        stack.start("agent-2", settings=settings)
        yield stack, proxy, settings
        proxy.close()


@pytest.fixture
def stack(proxied: tuple[Stack, SwallowingProxy, Settings]) -> Stack:
    """With both replicas."""
    proxied[0].wait_active(2)
    return proxied[0]


@pytest.fixture
def proxy(proxied: tuple[Stack, SwallowingProxy, Settings]) -> SwallowingProxy:
    return proxied[1]


def behind(stack: Stack) -> Replica:
    """The replica behind the proxy."""
    return next(one for one in stack.registry.replicas("fake") if one.device == BEHIND)


def all_whole(stack: Stack, streams: list[Stream]) -> list[Job]:
    """All have ended with every token, each once. Returns their records."""
    for stream in streams:
        stream.join()
        expected = [fake_token(f"{stream.job_id}/0", i) for i in range(TOKENS)]
        events: list[Event] = eventually(
            lambda job_id=stream.job_id: ended_events(stack, job_id), "a worker has restored its end"
        )
        assert stream.text == "".join(f" w{token}" for token in expected)
        if not any(event.type is EventType.SNAPSHOT for event in events):  # it has ended a minute ago
            assert [i for event in events for i in event.body.get("ids", ())] == expected
        assert (stream.finish_reason, stream.error) == ("length", None)
        assert sum(event.type.terminal for event in events) == 1
    return [job for job in stack.store.read_many([stream.job_id for stream in streams]) if job]


def ended_events(stack: Stack, job_id: str | None) -> list[Event]:
    """All events of a job that has ended; none while a Redis that came back lacks its end."""
    events = stack.journal(job_id)
    return events if events and events[-1].type.terminal else []


def claimants(stack: Stack, jobs: Iterable[Job]) -> set[str]:
    """The incarnations of all workers that have ever had one of the jobs."""
    entries = (entry for job in jobs for entry in read_timeline(stack.redis, job.id))
    return {str(entry.details["worker"]) for entry in entries if entry.what == "claimed"}


def at_next_offer(stack: Stack, proxy: SwallowingProxy, act: Callable[[], object]) -> set[str]:
    """Do something before the replica behind the proxy hears of its offers. Returns the ids of these, later."""
    offered: set[str] = set()
    done = threading.Event()

    def look_and_act() -> None:
        offered.update(str(one).rsplit("|", 1)[1] for one in stack.redis.zrange(f"{keys.lines('fake')}:offered", 0, -1))
        act()
        done.set()

    proxy.at_offer(look_and_act)
    return offered


@pytest.mark.parametrize("_", range(TIMES))
def test_a_worker_is_killed_between_its_offers_and_its_claims(stack: Stack, proxy: SwallowingProxy, _: int) -> None:
    victim = behind(stack)
    offered = at_next_offer(stack, proxy, lambda: os.kill(victim.pid, signal.SIGKILL))
    streams = [chat(stack, max_tokens=TOKENS) for _ in range(STREAMS)]
    jobs = all_whole(stack, streams)
    assert offered & {job.id for job in jobs}
    assert victim.incarnation not in claimants(stack, jobs)
    assert {(job.attempts, job.crashes, job.losses) for job in jobs} == {(1, 0, 0)}, (
        "an offer that is lost costs nothing"
    )


@pytest.mark.parametrize("_", range(TIMES))
def test_a_zombie_with_offers_in_its_hands_takes_nothing_from_others(
    stack: Stack, proxy: SwallowingProxy, _: int
) -> None:
    zombie = behind(stack)
    offered = at_next_offer(stack, proxy, lambda: stop(zombie.pid))
    try:
        streams = [chat(stack, max_tokens=TOKENS) for _ in range(STREAMS)]
        jobs = all_whole(stack, streams)
        eventually(lambda: zombie.incarnation not in stack.registry.alive([zombie.incarnation]), "its lease is over")
    finally:
        os.kill(zombie.pid, signal.SIGCONT)
    assert offered & {job.id for job in jobs}
    stack.wait_active(2)
    later = all_whole(stack, [chat(stack, max_tokens=TOKENS) for _ in range(STREAMS)])
    assert all_whole(stack, streams) == jobs
    assert zombie.incarnation not in claimants(stack, jobs)
    assert {(job.attempts, job.crashes, job.losses) for job in jobs} == {(1, 0, 0)}
    # A machine that is too busy for a heartbeat may cost a later one its worker, and nothing else does.
    assert {job.attempts - job.losses for job in later} == {1}


def test_all_wake_up_messages_and_openings_are_lost(stack: Stack) -> None:
    """Replicas ask by themselves."""
    queues = [model_queue("fake"), *(wake_queue(one.replica_id) for one in stack.registry.replicas("fake"))]
    lost = [keys.openings("fake"), *(name for queue in queues for name in lists(queue))]
    over = threading.Event()

    def lose() -> None:
        while not over.wait(0.005):
            stack.redis.delete(*lost)

    losing = threading.Thread(target=lose)
    losing.start()
    try:
        jobs = all_whole(stack, [chat(stack, max_tokens=TOKENS) for _ in range(STREAMS)])
    finally:
        over.set()
        losing.join()
    assert {job.attempts for job in jobs} == {1}


@pytest.mark.parametrize("_", range(TIMES))
def test_redis_comes_back_without_its_last_second_while_jobs_wait(stack: Stack, _: int) -> None:
    folder = stack.folder / "redis" / "appendonlydir"
    streams = [chat(stack, max_tokens=TOKENS) for _ in range(STREAMS)]
    eventually(lambda: all(stream.job_id for stream in streams), "all are accepted")
    eventually(lambda: stack.redis.zcard(keys.RUNNING) == 2 * SLOTS, "the slots are full")
    assert stack.redis.zcard(f"{keys.lines('fake')}:interactive")
    stack.redis.waitaof(1, 0, 5_000)
    log = max(folder.glob("*.incr.aof"))
    kept = log.stat().st_size
    eventually(lambda: log.stat().st_size > kept + 2_000, "more is written")
    stack.kill("redis")
    os.truncate(log, kept)
    stack.start_redis()
    all_whole(stack, streams)


def test_two_keepers_do_no_harm_to_a_line(stack: Stack, proxy: SwallowingProxy) -> None:
    stack.start("keeper-2")
    try:
        victim = behind(stack)
        streams = [chat(stack, max_tokens=TOKENS) for _ in range(STREAMS)]
        eventually(lambda: any(victim.incarnation == job.owner for job in read(stack, streams)), "it runs some")
        os.kill(victim.pid, signal.SIGKILL)
        jobs = all_whole(stack, streams)
    finally:
        stack.kill("keeper-2")
    assert max(job.attempts for job in jobs) <= 2
    assert not stack.redis.zcard(f"{keys.lines('fake')}:first")


def read(stack: Stack, streams: list[Stream]) -> list[Job]:
    """The records that are there."""
    return [job for job in stack.store.read_many([stream.job_id for stream in streams if stream.job_id]) if job]
