"""What all gRPC calls of this process share: the event loop, its threads, and the open calls."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from gateway.access.shares import Shares
from gateway.context import Gateway
from gateway.errors import QueueFull
from gateway.metrics.error_replies import ErrorReplies
from gateway.process.threads import IdleThreads
from gateway.tracing.spans import Tracer
from gateway.watching.watcher import Watcher

log = logging.getLogger(__name__)

#: A call whose client reads no message for this long is aborted.
SEND_TIMEOUT_S = 30.0
#: Threads that read the journal for silent streams: all of them at once, each second.
NUM_READERS = 16
#: How long aborted calls may take to clean up.
CLOSE_S = 5.0


class OpenCall(Protocol):
    """What the runtime needs of an open call."""

    @property
    def request_id(self) -> str:
        """Its id in the log."""

    @property
    def task(self) -> asyncio.Task[Any] | None:
        """The task in which it runs."""

    @property
    def sending_since(self) -> float:
        """When the message that is being sent was handed over (`time.monotonic`); infinite while none is."""

    def wake(self) -> None:
        """Wake the code that waits for its job."""

    def abort_stalled(self) -> None:
        """Abort the message that is being sent, which its client does not read."""


class RpcRuntime:
    """One for each process; made on the running event loop."""

    def __init__(self, gateway: Gateway, tracer: Tracer | None = None) -> None:
        self.gateway = gateway
        #: Of the spans of calls; None: they have none.
        self.tracer = tracer
        self.loop = asyncio.get_running_loop()
        self.max_calls = gateway.settings.grpc_max_calls
        self.error_replies = ErrorReplies(gateway.redis, "grpc")
        #: Limits the open calls of each key.
        self.shares = Shares(gateway.settings.grpc_key_max_calls)
        #: Threads for behaviours; one that waits for a whole answer takes long. A call uses one at most.
        self.threads = IdleThreads(self.max_calls, "rpc", idle_s=gateway.settings.idle_s)
        #: Threads for the short reads of all streams.
        self.readers = IdleThreads(NUM_READERS, "rpc-read", idle_s=gateway.settings.idle_s)
        #: Calls must end now; their errors say where the client can resume.
        self.closing = False
        self._calls: set[OpenCall] = set()
        self._streams: dict[Watcher, asyncio.Event] = {}
        self._cutting = self.loop.create_task(self._cut_off())
        gateway.hub.on_news = self._on_news

    def open_calls(self) -> int:
        """How many calls are open now."""
        return len(self._calls)

    @contextlib.contextmanager
    def admit(self, call: OpenCall) -> Iterator[None]:
        """Count a call as open. Raises: QueueFull.

        grpc's own `maximum_concurrent_rpcs` would also count ended calls whose client does not read the status.
        """
        if len(self._calls) >= self.max_calls:
            raise QueueFull(
                f"{self.max_calls} calls are open at this server, which is the limit. Try again later.",
                reason="too_many_calls",
                retry_after_s=1,
            )
        self._calls.add(call)
        try:
            yield
        finally:
            self._calls.discard(call)

    @contextlib.contextmanager
    def wakened_by(self, watcher: Watcher) -> Iterator[asyncio.Event]:
        """An event that is set whenever the watcher has news, or the call must end."""
        event = self._streams[watcher] = asyncio.Event()
        try:
            yield event
        finally:
            del self._streams[watcher]

    def close(self) -> None:
        """Let all calls end."""
        self.closing = True
        for event in self._streams.values():
            event.set()
        for call in self._calls:
            call.wake()

    async def wait_closed(self) -> None:
        """Return when no call has anything left to do, such as its deferred functions."""
        if tasks := {call.task for call in self._calls if call.task}:
            await asyncio.wait(tasks, timeout=CLOSE_S)

    def _on_news(self, watchers: Sequence[Watcher]) -> None:
        """Called by the hub's threads."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: this process ends
            self.loop.call_soon_threadsafe(self._wake, watchers)

    def _wake(self, watchers: Sequence[Watcher]) -> None:
        for watcher in watchers:
            if event := self._streams.get(watcher):
                event.set()

    async def _cut_off(self) -> None:
        """Abort streams whose client reads nothing."""
        while True:
            await asyncio.sleep(SEND_TIMEOUT_S / 6)
            since = time.monotonic() - SEND_TIMEOUT_S
            for call in [call for call in self._calls if call.sending_since < since]:
                try:
                    call.abort_stalled()
                except Exception:
                    log.exception("call %s can't be cut off", call.request_id)
