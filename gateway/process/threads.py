"""An executor whose threads end when they are idle. `ThreadPoolExecutor` keeps all that a burst has needed."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class _Call(NamedTuple):
    future: Future[Any]
    function: Callable[[], Any]

    def run(self) -> None:
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            result = self.function()
        except BaseException as error:  # noqa: BLE001 - it is raised where the result is asked for
            self.future.set_exception(error)
        else:
            self.future.set_result(result)


class IdleThreads(Executor):
    """At most so many threads, of which those that had nothing to do for `idle_s` end (0: never).

    Who was busy last is busy next, so that the others become idle.
    """

    def __init__(self, most: int, name: str, *, idle_s: float) -> None:
        self._most = most
        self._name = name
        self._idle_s = idle_s or None
        self._lock = threading.Lock()
        self._waiting: deque[_Call] = deque()
        #: Where each idle thread waits for its next call, or for None: its end.
        self._idle: list[SimpleQueue[_Call | None]] = []
        self._threads: set[threading.Thread] = set()
        self._closed = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run it in a thread. Raises: RuntimeError after `shutdown`."""
        call = _Call(Future(), lambda: fn(*args, **kwargs))
        with self._lock:
            if self._closed:
                raise RuntimeError("cannot schedule new futures after shutdown")
            if self._idle:
                self._idle.pop().put(call)
            elif len(self._threads) < self._most:
                thread = threading.Thread(target=self._work, args=(call,), name=self._name, daemon=True)
                thread.start()
                self._threads.add(thread)
            else:
                self._waiting.append(call)
        return call.future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls; those that were taken are run, unless they wait and `cancel_futures`."""
        with self._lock:
            self._closed = True
            while cancel_futures and self._waiting:
                self._waiting.popleft().future.cancel()
            while self._idle:
                self._idle.pop().put(None)
            threads = list(self._threads)
        for thread in threads if wait else ():
            thread.join()

    def _work(self, first: _Call) -> None:
        call: _Call | None = first
        inbox: SimpleQueue[_Call | None] = SimpleQueue()
        while call is not None:
            call.run()
            call = None  # what it holds is not kept while nothing comes
            call = self._next(inbox)

    def _next(self, inbox: SimpleQueue[_Call | None]) -> _Call | None:
        """The next call of this thread; None: it ends."""
        with self._lock:
            if self._waiting:
                return self._waiting.popleft()
            if self._closed:
                return None
            self._idle.append(inbox)
        try:
            return inbox.get(timeout=self._idle_s)
        except Empty:
            with self._lock:
                if inbox in self._idle:
                    self._idle.remove(inbox)
                    self._threads.discard(threading.current_thread())
                    return None
        return inbox.get()  # it was put there at this moment
