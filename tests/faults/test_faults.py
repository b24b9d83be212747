"""Kill, stop and cut every part in mid-stream, over 8 streams of the fake engine.

Its token i is a function of (job, choice, i): a lost, repeated or mixed-up token shows in the text itself. The full
counts run with HEADRACE_FAULTS=full (`make faults`).
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from gateway.cluster.registry import Registry
from gateway.jobs.record import Job, JobState, new_claim_id, new_job_id
from gateway.settings import Settings
from tests.faults.conftest import TIMES, Ledger
from tests.faults.proxy import SwallowingProxy
from tests.stack import Stack, Stream, chat, eventually, running, stop, stopped
from workers.engines.fake import fake_token

STREAMS, TOKENS = 8, 250


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    # A replica that is smaller than 16 streams: then two replicas share them, whichever takes the first.
    with running(tmp_path_factory.mktemp("f"), {"fake": {"step_s": 0.01}}, grace_s=10.0, max_batch_size=12) as stack:
        yield stack


@pytest.fixture
def streams(stack: Stack, request: pytest.FixtureRequest, ledger: Ledger) -> Iterator[list[Stream]]:
    """Eight streams in the middle of their answers. Afterwards all must have ended, without a fault in the text, and
    be in the ledger once."""
    stack.wait_active(1)
    before = tokens_in_ledger(stack)
    streams = [chat(stack, max_tokens=TOKENS) for _ in range(STREAMS)]
    eventually(lambda: all(len(s.ids) > 20 for s in streams), "all streams run")
    seqs = [stream.seqs[-1] for stream in streams]
    yield streams
    for stream in streams:
        stream.join()
    ledger.note(request.function.__name__.removeprefix("test_"), streams, seqs, lambda stream: check(stack, stream))
    eventually(lambda: tokens_in_ledger(stack) == before + STREAMS * (TOKENS + 1), "each stream was counted")


def check(stack: Stack, stream: Stream) -> None:
    """The client has exactly what the journal has, and that is exactly what the engine makes undisturbed."""
    expected = [fake_token(f"{stream.job_id}/0", i) for i in range(TOKENS)]
    events = stack.journal(stream.job_id)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert [i for event in events for i in event.body.get("ids", ())] == expected
    assert stream.text == "".join(f" w{token}" for token in expected)
    assert stream.seqs == sorted(set(stream.seqs))
    assert (stream.finish_reason, stream.error) == ("length", None)
    assert sum(event.type.terminal for event in events) == 1


def tokens_in_ledger(stack: Stack) -> int:
    with stack.client() as client:
        return int(client.get("/usage").json()["data"]["total"]["total_tokens"])


def attempts(stack: Stack, streams: list[Stream]) -> list[int]:
    jobs = stack.store.read_many([stream.job_id for stream in streams])
    return [job.attempts for job in jobs if job]


def died(pid: int) -> bool:
    return not psutil.pid_exists(pid)


@pytest.mark.parametrize("_", range(TIMES))
def test_killed_engine(stack: Stack, streams: list[Stream], _: int) -> None:
    engine = stack.replica().engine_pid
    os.kill(engine, signal.SIGKILL)
    for stream in streams:
        stream.join()
    assert attempts(stack, streams) == [2] * STREAMS
    assert stack.replica().engine_pid not in (0, engine)


@pytest.mark.parametrize("_", range(TIMES))
def test_killed_model_worker(stack: Stack, streams: list[Stream], _: int) -> None:
    before = stack.replica()
    os.kill(before.pid, signal.SIGKILL)
    for stream in streams:
        stream.join()
    assert attempts(stack, streams) == [2] * STREAMS
    assert stack.replica().pid != before.pid
    eventually(lambda: died(before.engine_pid), "the engine of the dead worker has ended too")


@pytest.mark.parametrize("_", range(TIMES))
def test_killed_agent(stack: Stack, streams: list[Stream], _: int) -> None:
    before = stack.replica()
    stack.kill("agent")
    stack.start("agent")
    for stream in streams:
        stream.join()
    assert attempts(stack, streams) == [1] * STREAMS
    assert stack.replica().pid == before.pid


@pytest.mark.parametrize("_", range(TIMES))
def test_killed_web_process(stack: Stack, streams: list[Stream], _: int) -> None:
    workers = psutil.Process(stack.processes["web"].pid).children()
    stack.kill("web")
    psutil.wait_procs(workers, timeout=60)
    stack.start("web")
    for stream in streams:
        stream.join()
    assert attempts(stack, streams) == [1] * STREAMS
    assert all(stream.reconnects for stream in streams)


@pytest.mark.parametrize("_", range(TIMES))
def test_killed_and_restarted_redis(stack: Stack, streams: list[Stream], _: int) -> None:
    stack.kill("redis")
    stack.start_redis()
    for stream in streams:
        stream.join()


@pytest.mark.parametrize("_", range(TIMES))
def test_redis_that_comes_back_without_its_last_moments(stack: Stack, streams: list[Stream], _: int) -> None:
    """As after a power cut: the end of the append-only file is missing. Workers send again what they hold."""
    stack.kill("redis")
    seen = {stream.job_id: len(stream.ids) for stream in streams}
    aof = max((stack.folder / "redis" / "appendonlydir").glob("*.incr.aof"))
    os.truncate(aof, aof.stat().st_size - 30_000)
    kept = aof.read_text(errors="replace")
    assert any(
        f"{job_id}}}:events\r\n${len(f'{count}-0')}\r\n{count}-0" not in kept for job_id, count in seen.items()
    ), "nothing is lost"
    stack.start_redis()
    for stream in streams:
        stream.join()


@pytest.mark.parametrize("_", range(TIMES))
def test_cut_connections(stack: Stack, streams: list[Stream], _: int) -> None:
    for kind in ("normal", "pubsub"):
        stack.redis.client_kill_filter(_type=kind, skipme=True)
    for stream in streams:
        stream.join()


def test_a_worker_that_lives_but_does_not_beat_is_replaced(stack: Stack, streams: list[Stream]) -> None:
    """As one whose emitter is stuck: it holds its lock, and nobody else may have the replica."""
    before = stack.replica()
    stop(before.pid)
    eventually(lambda: died(before.pid), "its agent has ended it")
    for stream in streams:
        stream.join()
    assert stack.replica().pid != before.pid


def test_a_claim_whose_reply_was_lost(stack: Stack) -> None:
    """Redis holds a job in the name of a worker that does not know it: the worker gives it back, and it runs."""
    worker = stack.replica().incarnation
    request = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 5, "temperature": 0.0, "top_p": 1.0}
    job = Job(new_job_id("chat"), JobState.QUEUED, "chat", "fake", "key", request)
    stack.store.create(job, ttl_ms=60_000)
    assert stack.store.claim(job.id, model="fake", owner=worker, claim=new_claim_id())
    done = eventually(lambda: (j := stack.store.read(job.id)) and j.state.ended and j, "the job has ended")
    assert (done.state, done.epoch, done.crashes) == (JobState.DONE, 2, 0)


@pytest.fixture(scope="module")
def behind_proxy(stack: Stack) -> Iterator[tuple[SwallowingProxy, Settings]]:
    """A second agent, whose worker reaches Redis through the proxy."""
    proxy = SwallowingProxy(str(stack.socket))
    settings = replace(stack.settings, redis_url=proxy.url, device="cpu1")
    stack.put("fake", {"step_s": 0.01}, settings)
    stack.start("agent-2", settings=settings)
    stack.wait_active(2)
    yield proxy, settings
    proxy.close()


def test_swallowed_replies_to_appends(stack: Stack, behind_proxy: tuple[SwallowingProxy, Settings]) -> None:
    """Both replicas take part, so that 16 streams put some behind the proxy."""
    proxy, settings = behind_proxy
    for _ in range(TIMES):
        streams = [chat(stack, max_tokens=TOKENS) for _ in range(2 * STREAMS)]
        eventually(lambda streams=streams: all(len(s.ids) > 20 for s in streams), "all streams run")
        owners = [job.owner for job in stack.store.read_many([s.job_id for s in streams]) if job]
        assert any(settings.device in owner for owner in owners)
        before = proxy.swallowed
        proxy.swallow(3)
        for stream in streams:
            stream.join()
            check(stack, stream)
        assert proxy.swallowed > before


@pytest.mark.parametrize("_", range(TIMES))
@pytest.mark.usefixtures("behind_proxy")
def test_a_zombie_adds_nothing(stack: Stack, _: int) -> None:
    """A worker that was stopped past its lease, and then goes on, must not write into jobs that another took over."""
    stack.wait_active(2)
    streams = [chat(stack, max_tokens=TOKENS) for _ in range(2 * STREAMS)]
    eventually(lambda: all(len(s.ids) > 20 for s in streams), "all streams run")
    jobs = [job for job in stack.store.read_many([s.job_id for s in streams]) if job]
    zombie = next(r for r in Registry(stack.redis).replicas("fake") if r.device == "cpu0")
    taken = [job for job in jobs if job.owner == zombie.incarnation]
    assert taken
    with stopped(zombie.pid):
        eventually(
            lambda: all((j := stack.store.read(job.id)) and j.claim not in ("", job.claim) for job in taken),
            "another worker has claimed all of its jobs",
        )
        seqs = {job.id: len(stack.journal(job.id)) for job in taken}
    for stream in streams:
        stream.join()
        check(stack, stream)
    for job in taken:
        later = stack.journal(job.id)[seqs[job.id] :]
        assert job.claim not in {event.claim for event in later}


@pytest.fixture
def poisoned(tmp_path: Path) -> Iterator[Stack]:
    """An engine that dies, or hangs, when it meets a certain word."""
    options = {"step_s": 0.01, "crash_word": "poison", "crash_at": 5, "hang_word": "molasses", "hang_at": 5}
    with running(tmp_path, {"fake": options}, engine_stall_s=3.0) as stack:
        yield stack


def test_a_job_that_kills_engines_fails_alone(poisoned: Stack) -> None:
    """The others in its batch do not pay."""
    innocent = [chat(poisoned, "water", max_tokens=TOKENS) for _ in range(3)]
    eventually(lambda: all(len(s.ids) > 5 for s in innocent), "the innocent run")
    guilty = chat(poisoned, "poison", max_tokens=TOKENS).join()
    assert guilty.error is not None
    assert guilty.error["data"]["reason"] == "engine_crashed"
    for stream in innocent:
        stream.join()
        check(poisoned, stream)


def test_an_engine_that_hangs_is_replaced(poisoned: Stack) -> None:
    stream = chat(poisoned, "water", max_tokens=TOKENS)
    eventually(lambda: len(stream.ids) > 5, "it runs")
    hanging = chat(poisoned, "molasses", max_tokens=TOKENS).join()
    assert hanging.error is not None
    assert hanging.error["data"]["reason"] == "engine_crashed"
    stream.join()
    check(poisoned, stream)
