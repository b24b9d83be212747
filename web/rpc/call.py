"""One gRPC call: who asks, under which request id, and whether the client is still there.

All calls run on one event loop. Access to Redis blocks, so behaviours run in threads: a behaviour has its `Call`, and
knows nothing of the loop.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeVar

import grpc.aio

from gateway.access.api_keys import KeyRecord
from gateway.errors import Unavailable
from gateway.process import log_context
from gateway.tracing.spans import RequestSpan
from schemas.inference import MAX_TIMEOUT_S
from web.bearer import bearer
from web.client_errors import client_error
from web.request_ids import request_id
from web.rpc.runtime import SEND_TIMEOUT_S, RpcRuntime
from web.rpc.status import to_status

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Names of methods that change nothing begin so.
LOOKING = ("Get", "List", "Watch")
#: Statuses that are not the client's fault.
OUR_FAULT = ("UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS")


class Call:
    """The context of a call, which a behaviour gets besides its request."""

    def __init__(self, face: RpcRuntime, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        self.face = face
        self.gateway = face.gateway
        self.job_id = ""
        self.key: KeyRecord
        #: The client is gone.
        self.gone = False
        #: When the message that is being sent was handed over; infinite while none is.
        self.sending_since = float("inf")
        self._context = context
        #: grpc's task, in which the call runs.
        self.task = asyncio.current_task()
        self._metadata = {name: value for name, value in context.invocation_metadata() or () if isinstance(value, str)}
        self.request_id = request_id(self._metadata.get("x-request-id", ""))
        log_context.begin(request_id=self.request_id)
        self._span: RequestSpan | None = None
        self._deadline = time.monotonic() + left if (left := context.time_remaining()) is not None else float("inf")
        self._began = time.monotonic()
        self._answered = False
        self._head: asyncio.Task[None] | None = None
        self._wakers: list[Callable[[], None]] = []
        self._deferred: list[Callable[[], None]] = []
        self._cut = False
        #: Uncounts the call from its key, once it is counted.
        self._give_back: Callable[[], None] = lambda: None

    # -- for behaviours, in threads

    def authenticate(self) -> None:
        """Find the key, or the default key for calls without a token. Raises: Unauthenticated, QueueFull."""
        secret = bearer(self.header("authorization") or "")
        assumed = self.gateway.settings.grpc_default_key
        if assumed and not secret:
            self.key = self.gateway.credentials.assume(assumed)
        else:
            self.key = self.gateway.credentials.authenticate(secret)
        log_context.note(key_id=self.key.id)
        self._give_back = self.face.shares.take(self.key.id)

    def header(self, name: str) -> str | None:
        """A value of the client's metadata."""
        return self._metadata.get(name)

    def answer(self, headers: Mapping[str, str]) -> None:
        """Send the initial metadata, once: the request id and these. Does not wait for it."""
        if not self._answered:
            self._answered = True
            self.face.loop.call_soon_threadsafe(self._send_head, headers)

    @property
    def left_s(self) -> float | None:
        """Seconds until the client's deadline; None if it has none, or none of use."""
        left_s = self._deadline - time.monotonic()
        return max(0.001, left_s) if left_s < MAX_TIMEOUT_S else None

    @property
    def deadline_exceeded(self) -> bool:
        """Whether the client's deadline has passed."""
        return time.monotonic() >= self._deadline

    def on_end(self, waker: Callable[[], None]) -> None:
        """Call `waker` when the call ends or has to end, which may be now."""
        self._wakers.append(waker)
        if self.gone or self.face.closing:
            waker()

    def defer(self, function: Callable[[], None]) -> None:
        """Run a function, in a thread, when the call has ended for any reason."""
        self._deferred.append(function)

    def require_running(self) -> None:
        """Raises: Unavailable when this process ends, with the place where the client can go on."""
        if self.face.closing:
            raise Unavailable(f"This server restarts.{self.where}", reason="restarting", retry_after_s=0.2)

    @property
    def where(self) -> str:
        """Where a client can go on, as the end of an error's text."""
        return f" Job {self.job_id} goes on: follow it with WatchJob." if self.job_id else ""

    # -- for the event loop

    async def in_thread(self, function: Callable[[], T], *, short: bool = True) -> T:
        """Run a blocking function in a thread. It runs to its end, even if the client leaves.

        `short`: it takes little time, so it may wait for one of a few threads.
        """
        context = contextvars.copy_context()
        future = (self.face.readers if short else self.face.threads).submit(context.run, function)
        try:
            return await asyncio.shield(asyncio.wrap_future(future))
        except asyncio.CancelledError:
            self.leave()
            (result,) = await asyncio.gather(asyncio.wrap_future(future), return_exceptions=True)
            if isinstance(result, Exception):
                log.info("call %s, whose client has left: %s", self.request_id, result)
            raise

    def leave(self) -> None:
        """The client is gone."""
        self.gone = True
        self.wake()

    def wake(self) -> None:
        """Have those who wait for this call's job look around."""
        for waker in self._wakers:
            waker()

    async def head(self) -> None:
        """Return when the initial metadata is sent."""
        if not self._answered:
            self._answered = True
            self._send_head({})
        assert self._head  # what a thread schedules on the loop runs before its result arrives
        await self._head

    async def send(self, message: bytes) -> None:
        """Send one message. Raises: Unavailable if the client takes none."""
        self.sending_since = time.monotonic()
        try:
            await self._context.write(message)
        except asyncio.CancelledError:
            if not self._cut:
                raise
            where = f" Job {self.job_id} ends too, unless it is followed with WatchJob soon." if self.job_id else ""
            raise Unavailable(
                f"The client has taken no message for {SEND_TIMEOUT_S:g} s, so this stream ends.{where}",
                reason="client_stalled",
            ) from None
        finally:
            self.sending_since = float("inf")

    def abort_stalled(self) -> None:
        """End the message that is being sent, which its client does not take."""
        self._cut = True
        if self.task:
            self.task.cancel()

    async def close(self) -> None:
        """Run deferred functions, and leave nothing of this call on the loop."""
        try:
            if self._deferred:
                await self.in_thread(self._run_deferred)
        finally:
            self._give_back()
            if self._head:
                (error,) = await asyncio.gather(self._head, return_exceptions=True)
                if error is not None:
                    log.debug("call %s: its initial metadata was not sent: %r", self.request_id, error)

    async def fail(self, error: Exception, doing: str) -> NoReturn:
        """End the call with the status of an error. Raises: grpc.aio.AbortError, as grpc wants it."""
        found = client_error(error, f"{doing} (request {self.request_id})")
        self.log_end(doing, found.reason, code=found.grpc_code)
        self.face.error_replies.count(found)
        await self.head()
        await self._context.abort_with_status(to_status(found, request_id=self.request_id, job_id=self.job_id))

    def begin_span(self, doing: str) -> None:
        """The span of this call. One that only looks has none, unless its client traces it."""
        if self.face.tracer is None or (only_looks(doing) and not self.header("traceparent")):
            return
        headers = {name: self.header(name) or "" for name in ("traceparent", "tracestate")}
        method = "/".join(doing.rsplit(".", 1))
        self._span = self.face.tracer.begin(method, headers, {"rpc.system.name": "grpc", "rpc.method": method})

    def log_end(self, doing: str, outcome: str, *, code: str = "OK") -> None:
        """A line for each call, of which those that only look are for the level `debug`; and the end of its span."""
        level = logging.DEBUG if only_looks(doing) else logging.INFO
        log.log(level, "%s: %s, after %.0f ms", doing, outcome, 1000 * (time.monotonic() - self._began))
        span, self._span = self._span, None
        if span is not None:
            span.end({"rpc.response.status_code": code}, error=outcome if code in OUR_FAULT else "")

    def _send_head(self, headers: Mapping[str, str]) -> None:
        metadata = (("x-request-id", self.request_id), *headers.items())
        self._head = self.face.loop.create_task(self._context.send_initial_metadata(metadata))

    def _run_deferred(self) -> None:
        for function in self._deferred:
            try:
                function()
            except Exception as error:
                log.warning("call %s: not tidied up (%s)", self.request_id, error, exc_info=True)


def only_looks(method: str) -> bool:
    """Whether a method, by its full name, changes nothing."""
    return method.rpartition(".")[2].startswith(LOOKING)
