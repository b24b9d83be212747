"""Threads that end when they are idle."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, wait

import pytest

from gateway.process.threads import IdleThreads
from tests.stack import eventually


def alive() -> int:
    return sum(one.name == "test-idle" for one in threading.enumerate())


@pytest.fixture
def threads() -> Iterator[IdleThreads]:
    threads = IdleThreads(8, "test-idle", idle_s=0.2)
    yield threads
    threads.shutdown()
    assert alive() == 0


def test_results_and_errors_come_back(threads: IdleThreads) -> None:
    assert threads.submit(divmod, 7, 3).result(10) == (2, 1)
    with pytest.raises(ZeroDivisionError):
        threads.submit(divmod, 7, 0).result(10)
    assert list(threads.map(str, range(20))) == [str(i) for i in range(20)]


def test_a_burst_takes_as_many_as_there_may_be_and_gives_them_back(threads: IdleThreads) -> None:
    gate, begun = threading.Event(), threading.Semaphore(0)

    def held(i: int) -> int:
        begun.release()
        gate.wait(60)
        return i

    futures = [threads.submit(held, i) for i in range(20)]
    for _ in range(8):
        assert begun.acquire(timeout=60)
    assert not begun.acquire(timeout=0.1), "the others wait"
    assert alive() == 8
    gate.set()
    assert [future.result(60) for future in futures] == list(range(20))
    eventually(lambda: alive() == 0, "they have ended")
    assert threads.submit(int, "7").result(10) == 7, "and come again"


def test_one_call_after_the_other_keeps_one_thread(threads: IdleThreads) -> None:
    """Also after a burst: the others are not woken in turn."""
    barrier = threading.Barrier(8)
    wait([threads.submit(barrier.wait, 60) for _ in range(8)])

    def small() -> bool:
        threads.submit(int).result(10)
        return alive() == 1

    eventually(small, "only one is left")


def test_what_waits_at_the_end_is_run_or_cancelled() -> None:
    for cancels in (False, True):
        threads, gate = IdleThreads(1, "test-idle", idle_s=60), threading.Event()
        futures: list[Future[bool]] = [threads.submit(gate.wait, 60) for _ in range(3)]
        threads.shutdown(wait=False, cancel_futures=cancels)
        gate.set()
        threads.shutdown()
        assert [future.cancelled() for future in futures] == [False, cancels, cancels]
        with pytest.raises(RuntimeError, match="after shutdown"):
            threads.submit(int)
        assert alive() == 0
