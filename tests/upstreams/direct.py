"""Calls of providers as the provider worker makes them, into a journal and back to an answer, without Redis between."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.jobs.compaction import snapshot
from gateway.jobs.events import Event, EventType
from gateway.jobs.record import Job, JobState
from gateway.models.entry import Model, Provider
from gateway.store.codec import dumps, loads
from gateway.views import embeddings, text
from web.http.chunks import sse_chunks
from web.rpc.answers import answer as as_message
from web.rpc.chunks import message_chunks
from workers.providers.base import UpstreamDelta
from workers.providers.failures import UpstreamFailure
from workers.providers.provider_calls import Calls
from workers.providers.run import ProviderRun
from workers.providers.secrets import redacted
from workers.providers.transcript import Transcript

#: A call that takes longer has hung.
LIMIT_S = 30.0


@dataclass(frozen=True)
class Outcome:
    """What a client would have got: an answer, or a failure with nothing or a part before it."""

    answer: Mapping[str, Any]
    failure: UpstreamFailure | None
    #: Chunks of a stream, as JSON.
    chunks: list[Any]
    events: list[Event]

    @property
    def message(self) -> Mapping[str, Any]:
        """The message of the first choice."""
        found: Mapping[str, Any] = self.answer["choices"][0]["message"]
        return found

    @property
    def text(self) -> str:
        """The text of the first choice."""
        return str(self.message["content"] or "")


class Direct:
    """One provider."""

    def __init__(self, provider: Provider) -> None:
        self.provider = provider
        self._calls = Calls(lambda text: redacted(text, [provider]))

    def close(self) -> None:
        """Close its connections."""
        self._calls.close()

    def ask(
        self, upstream: str, request: Mapping[str, Any] | None = None, *, kind: str = "chat", asked: str = "m"
    ) -> Outcome:
        """Ask for a model of the provider. `asked`: the one that the client has named."""
        wanted = request or {"messages": [{"role": "user", "content": "hi"}]}
        job = Job("j", JobState.RUNNING, kind, asked, "k", claim="c", route="" if asked == "m" else "m", request=wanted)
        model = Model("m", "M", "", "1", ("chat",), provider=self.provider.name, upstream=upstream, via=self.provider)
        run = ProviderRun(job, model, self.provider, Transcript(job))
        run.open_call({}, threading.Event())
        pieces: list[UpstreamDelta] = []
        failure = None
        try:
            self._calls.start(self.provider, model, run.transcript, pieces.append).result(LIMIT_S)
        except UpstreamFailure as error:
            failure = error
        for piece in pieces:
            run.take(piece)
        if failure is None:
            run.done()
        else:
            run.fail(failure.reason, failure.message, **failure.details(self.provider))
        return self._outcome(job, run, failure)

    @staticmethod
    def _outcome(job: Job, run: ProviderRun, failure: UpstreamFailure | None) -> Outcome:
        """All that the faces make of the journal, so that whatever they can't write is found."""
        events, packed = [Event(0, {"type": EventType.STARTED.value})][:0], bytearray()
        while (append := run.unconfirmed()) is not None:
            for entry in append.events:
                events.append(Event(len(events) + 1, loads(entry)))
            for offset, data in append.vectors:
                packed[offset : offset + len(data)] = data
            run.confirm(append)
        if job.kind == "embedding":
            answer = {} if failure else embeddings.answer(job, events, bytes(packed))
            return Outcome(answer, failure, [], events)
        answer = text.answer(job, events)
        assert text.answer(job, snapshot(events))["choices"] == answer["choices"]
        assert loads(dumps(answer)) == answer
        as_message(job.kind, answer)
        sse, rpc = sse_chunks(job), message_chunks(job)
        chunks = [loads(frame.partition("data: ")[2]) for event in events for frame in sse.encode(event)]
        assert len([one for event in events for one in rpc.encode(event)]) == len(chunks)
        return Outcome(answer, failure, chunks, events)
