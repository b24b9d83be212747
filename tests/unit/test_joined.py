"""What several threads ask of Redis at the same time is joined into one round trip."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
import redis

from gateway.store.joined import Command, Joined
from tests.stack import eventually


class Server:
    """Answers each command with itself, when it is let."""

    def __init__(self) -> None:
        self.calls: list[list[Command]] = []
        self.asked, self.may_answer = threading.Semaphore(0), threading.Semaphore(0)
        self.error: Exception | None = None

    def __call__(self, commands: Sequence[Command]) -> list[Any]:
        self.calls.append(list(commands))
        self.asked.release()
        assert self.may_answer.acquire(timeout=30)
        error, self.error = self.error, None
        if error:
            raise error
        return [command[0] for command in commands]


class Crowd:
    """Threads that ask."""

    def __init__(self, server: Server) -> None:
        self.joined = Joined(server)
        self._server = server
        self._threads = ThreadPoolExecutor(8)

    def begin(self) -> Future[list[Any]]:
        """A call that is under way."""
        asked = self._threads.submit(self.joined, [("first",)])
        assert self._server.asked.acquire(timeout=30)
        return asked

    def ask(self, *names: str) -> Future[list[Any]]:
        """One more, which waits for that."""
        before = self.joined._waiting.qsize()
        asked = self._threads.submit(self.joined, [(name,) for name in names])
        eventually(lambda: self.joined._waiting.qsize() > before, "it waits")
        return asked


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def crowd(server: Server) -> Crowd:
    return Crowd(server)


def test_who_comes_alone_is_served_at_once(crowd: Crowd, server: Server) -> None:
    for name in ("a", "b"):
        server.may_answer.release()
        assert crowd.joined([(name,)]) == [name]
    assert server.calls == [[("a",)], [("b",)]]


def test_those_who_come_meanwhile_share_the_next_round_trip(crowd: Crowd, server: Server) -> None:
    first = crowd.begin()
    others = [crowd.ask("a", "b"), crowd.ask("c")]
    server.may_answer.release(2)
    assert first.result(30) == ["first"]
    assert [other.result(30) for other in others] == [["a", "b"], ["c"]], "each has its own replies"
    assert server.calls == [[("first",)], [("a",), ("b",), ("c",)]]


def test_an_error_is_raised_where_it_was_asked_and_the_next_are_served(crowd: Crowd, server: Server) -> None:
    server.error = redis.exceptions.ConnectionError("gone")
    first = crowd.begin()
    other = crowd.ask("a")
    server.may_answer.release(2)
    with pytest.raises(redis.exceptions.ConnectionError, match="gone"):
        first.result(30)
    assert other.result(30) == ["a"]


def test_who_has_waited_for_a_redis_that_hangs_does_not_wait_for_it_once_more(crowd: Crowd, server: Server) -> None:
    server.error = redis.exceptions.TimeoutError("no answer")
    first = crowd.begin()
    other = crowd.ask("a")
    server.may_answer.release()
    for call in (first, other):
        with pytest.raises(redis.exceptions.TimeoutError):
            call.result(30)
    assert server.calls == [[("first",)]]


def test_no_more_calls_share_a_round_trip_than_are_allowed(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.store.joined.MOST", 2)
    crowd = Crowd(server)
    asked = [crowd.begin(), *(crowd.ask(name) for name in "abc")]
    for _ in range(3):
        server.may_answer.release()
    assert [one.result(30) for one in asked] == [["first"], ["a"], ["b"], ["c"]]
    assert server.calls == [[("first",)], [("a",), ("b",)], [("c",)]]
