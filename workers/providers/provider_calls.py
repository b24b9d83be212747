"""Calls of providers on one event loop in a thread of its own, with their time-outs. Knows no Redis and no policy."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import replace

import httpx2

from gateway.models.entry import Model, Provider
from gateway.store.loop import Loop
from workers.providers import connect
from workers.providers.base import Upstream, UpstreamDelta, UpstreamRequest
from workers.providers.failures import UpstreamFailure, WireError, translate
from workers.providers.transcript import Transcript

log = logging.getLogger(__name__)

#: What may be wrong with a call that is no error of ours.
_EXPECTED = (UpstreamFailure, WireError, httpx2.HTTPError, OSError)

#: For how many times its time-out a provider may only show that it lives.
PATIENCE = 10
_SIGN_OF_LIFE = UpstreamDelta()

#: Takes a piece as soon as it is there, on the loop's thread.
Sink = Callable[[UpstreamDelta], None]


class Calls:
    """Clients of all providers, and the loop that they run on. `clean` takes keys out of a text."""

    def __init__(self, clean: Callable[[str], str]) -> None:
        self._clean = clean
        self._loop = asyncio.new_event_loop()
        self._upstreams: dict[str, tuple[Provider, Upstream]] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread = Loop(self._loop.run_forever, name="providers", over=self._closed.is_set)
        self._thread.start()

    def upstream(self, provider: Provider) -> Upstream:
        """The client of a provider, as the catalog describes it now. Raises: InvalidSetting."""
        with self._lock:
            known, upstream = self._upstreams.get(provider.name, (None, None))
            if upstream is None or known != provider:
                upstream = connect(provider)
                self._upstreams[provider.name] = provider, upstream
        return upstream

    def start(
        self, provider: Provider, model: Model, transcript: Transcript, sink: Sink
    ) -> concurrent.futures.Future[None]:
        """Ask for what is missing in the transcript. Cancelling the future closes the connections at once.

        The future raises: UpstreamFailure.
        """
        upstream = self.upstream(provider)
        asks = plan(upstream, model, transcript)
        work = self._together(upstream, provider, asks, transcript, sink)
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def close(self) -> None:
        """Close all connections, and end the loop."""

        async def close() -> None:
            closing = (upstream.close() for _, upstream in self._upstreams.values())
            for name, result in zip(
                self._upstreams, await asyncio.gather(*closing, return_exceptions=True), strict=True
            ):
                if result is not None:
                    log.warning("the connections of provider %s were not closed: %r", name, result)
            self._loop.stop()

        self._closed.set()
        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(close(), self._loop)
            self._thread.join(2)
        if not self._thread.is_alive():
            self._loop.close()

    async def _together(
        self,
        upstream: Upstream,
        provider: Provider,
        asks: Sequence[UpstreamRequest],
        transcript: Transcript,
        sink: Sink,
    ) -> None:
        """All calls of a job at once; the first failure ends them all."""
        try:
            async with asyncio.TaskGroup() as group:
                for ask in asks:
                    group.create_task(_one(upstream, provider, ask, transcript, sink))
        except ExceptionGroup as failures:
            first: Exception = failures.exceptions[0]
            if not isinstance(first, (*upstream.errors, *_EXPECTED)):
                log.error("job %s: an error of ours in a call", transcript.job.id, exc_info=first)
            raise translate(first, provider, self._clean) from None


def plan(upstream: Upstream, model: Model, transcript: Transcript) -> list[UpstreamRequest]:
    """The calls that bring what is missing: one for all answers, or one for each."""
    job, missing = transcript.job, transcript.missing
    whole = UpstreamRequest(
        job.kind,
        model,
        job.request,
        missing,
        named=model.id == job.model,
        headers=job.claim_span(job.claim).headers,
    )
    begun = any(transcript.choices[index].text for index in missing)
    if len(missing) == len(transcript.choices) and not begun and not upstream.splits(whole):
        return [whole]
    choices = transcript.choices
    return [replace(whole, indexes=[index], before=choices[index].text) for index in missing]


async def _one(
    upstream: Upstream, provider: Provider, ask: UpstreamRequest, transcript: Transcript, sink: Sink
) -> None:
    call = transcript.begin_call()
    stream = upstream.stream(ask)
    timeout_s, what = provider.first_byte_timeout_s, f"{provider.name} did not begin to answer"
    progress_at = time.monotonic()
    try:
        while (piece := await _next(stream, timeout_s, what)) is not None:
            transcript.take(piece, call)
            sink(piece)
            timeout_s, what = provider.between_timeout_s, f"{provider.name} stopped in the middle"
            if piece != _SIGN_OF_LIFE:
                progress_at = time.monotonic()
            elif time.monotonic() > progress_at + PATIENCE * provider.first_byte_timeout_s:
                text = f"Provider {provider.name} has said nothing for too long, though it lives."
                raise UpstreamFailure("upstream_timeout", text, True)
    except Exception as error:
        if not _complete(ask, transcript):
            raise
        log.warning("job %s: only the count is missing, behind the answer: %r", transcript.job.id, error)
    finally:
        await stream.aclose()
    if ask.kind != "embedding" and not _complete(ask, transcript):
        text = f"Provider {provider.name} ended its answer too early."
        # Who gives one answer where several were asked for is asked for the others, and not blamed.
        none = not any(transcript.choices[index].finish_reason for index in ask.indexes)
        raise UpstreamFailure("upstream_interrupted", text, True, blame=none)
    call.counted = call.prompt is not None and (ask.kind == "embedding" or call.completion is not None)


def _complete(ask: UpstreamRequest, transcript: Transcript) -> bool:
    """Whether all answers of a call have ended."""
    return ask.kind != "embedding" and all(transcript.choices[index].finish_reason for index in ask.indexes)


async def _next(stream: AsyncGenerator[UpstreamDelta], timeout_s: float, what: str) -> UpstreamDelta | None:
    try:
        async with asyncio.timeout(timeout_s):
            return await anext(stream, None)
    except TimeoutError:
        raise UpstreamFailure("upstream_timeout", f"Provider {what} for {timeout_s:g} s.", True) from None
