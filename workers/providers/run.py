"""A job that a provider worker holds: its transcript, and its events. Only the emitter thread writes events."""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Mapping
from typing import Any

from gateway.jobs.events import Append, EventType
from gateway.jobs.record import Job, JobState
from gateway.models.entry import Model, Provider
from workers.journal.claimed_job import ClaimedJob
from workers.providers.base import UpstreamDelta
from workers.providers.transcript import Transcript


class ProviderRun(ClaimedJob):
    """A claimed job of a remote model."""

    def __init__(self, job: Job, model: Model, provider: Provider, transcript: Transcript) -> None:
        super().__init__(job)
        self.model = model
        self.provider = provider
        self.transcript = transcript
        #: Fallbacks that can't do what is asked, with the reason.
        self.skipped: dict[str, str] = {}
        #: Tokens that were counted by `new_tokens`, or before this claim.
        self._counted = transcript.made
        #: The seq of the call's event, and the event that is set when the journal has it.
        self._on_record: tuple[int, threading.Event] | None = None
        self._begun = False
        self._brought = False
        self._call: concurrent.futures.Future[Any] | None = None
        self._lock = threading.Lock()

    def usage(self) -> Mapping[str, Any]:
        """As counted by the provider, else estimated."""
        return self.transcript.usage()

    def new_tokens(self) -> int:
        """Tokens of the answer since the last call; below 0 if more were estimated than the provider has counted."""
        made = self.transcript.made
        new, self._counted = made - self._counted, made
        return new

    # -- called from the emitter thread

    def open_call(self, info: Mapping[str, Any], on_record: threading.Event) -> None:
        """Write that a call of the provider is about to be made; `on_record` is set when the journal has it."""
        again = self._begun or (self.transcript.resume_point is not None and bool(self.transcript.resume_point.tried))
        self._begun, self._brought = True, False
        about = {"model": self.model.id, "provider": self.provider.name, "upstream": self._upstream, **info}
        self.event(EventType.RESUMED if again else EventType.STARTED, about)
        self._on_record = len(self._events), on_record

    def take(self, piece: UpstreamDelta) -> None:
        """Write a delta of a call."""
        if self.state is not None:
            return
        if piece.vector:
            self.add_vector(piece.index, piece.vector)
        elif piece.text or piece.tool_calls or piece.logprobs or piece.extra:
            extra = [piece.extra] if piece.extra else []
            self.extend(piece.index, text=piece.text, tool_calls=piece.tool_calls, lp=piece.logprobs, extra=extra)
            self.urgent = self.urgent or not self._brought
            self._brought = True
        if piece.finish:
            self.finish_choice(piece.index, piece.finish)

    def cancel(self) -> None:
        """End it as cancelled, and abort its call."""
        self.abort()
        super().cancel()

    def confirm(self, append: Append) -> None:
        """Redis has these."""
        super().confirm(append)
        if self._on_record and self._confirmed >= self._on_record[0]:
            self._on_record[1].set()

    # -- called from any thread

    def calling(self, call: concurrent.futures.Future[Any]) -> None:
        """Note the call that is being made."""
        with self._lock:
            self._call = call
            aborted = self.finished.is_set() or self.state is not None
        if aborted:
            call.cancel()

    def abort(self) -> None:
        """Close the connection of the call, if one is being made."""
        with self._lock:
            if self._call is not None:
                self._call.cancel()

    @property
    def _upstream(self) -> str:
        return self.model.upstream_for(self.job.kind)

    def _end(self, state: JobState, kind: EventType, body: Mapping[str, Any]) -> None:
        if self.state is None:
            super()._end(state, kind, {**body, **self.transcript.record()})
