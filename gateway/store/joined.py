"""Joins what the threads (or greenlets) of a process ask of Redis at the same time: one round trip serves them all.

Who comes while none is under way is served at once; who comes meanwhile, with the next. Under load each round trip is
shared by several, so it costs less of the processors of both sides; Redis itself does one thing after the other anyway.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any

import redis

#: Calls that share a round trip at most; the others come with the next.
MOST = 64
#: A command of Redis and its arguments.
Command = tuple[str | int | bytes, ...]


class _Call:
    """What one thread asks, and what it is answered."""

    def __init__(self, commands: Sequence[Command]) -> None:
        self.commands = commands
        self.replies: list[Any] = []
        self.error: BaseException | None = None
        self.is_answered = threading.Event()

    def fail(self, error: BaseException) -> None:
        """There is no answer."""
        self.error = error
        self.is_answered.set()


class Joined:
    """Calls `run` with the commands of all who wait; it returns a reply to each, in order."""

    def __init__(self, run: Callable[[Sequence[Command]], list[Any]]) -> None:
        self._run = run
        self._waiting: queue.SimpleQueue[_Call] = queue.SimpleQueue()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def __call__(self, commands: Sequence[Command]) -> list[Any]:
        """The replies to these commands. Raises: what `run` raises."""
        call = _Call(commands)
        self._waiting.put(call)
        if self._thread is None:
            self._start()
        call.is_answered.wait()
        if call.error is not None:
            raise call.error
        return call.replies

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="redis-joined", daemon=True)
                self._thread.start()

    def _serve(self) -> None:
        while True:
            self._answer([self._waiting.get(), *self._waiting_ones(MOST - 1)])

    def _waiting_ones(self, most: int) -> list[_Call]:
        return [self._waiting.get_nowait() for _ in range(min(most, self._waiting.qsize()))]

    def _answer(self, calls: Sequence[_Call]) -> None:
        """Never raises: whatever goes wrong is said to those who wait for it."""
        try:
            replies = iter(self._run([command for call in calls for command in call.commands]))
            for call in calls:
                call.replies = [next(replies) for _ in call.commands]
                call.is_answered.set()
        except BaseException as error:  # noqa: BLE001 - it is raised where it was asked
            for call in calls:
                call.fail(error)
            if isinstance(error, redis.exceptions.TimeoutError):  # they have waited for as long
                for call in self._waiting_ones(self._waiting.qsize()):
                    call.fail(error)
