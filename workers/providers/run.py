"""A job that a provider worker holds: its transcript, and the events of it. Only the emitter thread writes events."""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Mapping
from typing import Any

from gateway.jobs import Append, EventType, Job, JobState
from gateway.model import Model, Provider
from workers.claimed import ClaimedJob
from workers.providers.base import Piece
from workers.providers.transcript import Transcript


class ProviderRun(ClaimedJob):
    """A claimed job of a remote model."""

    def __init__(self, job: Job, model: Model, provider: Provider, transcript: Transcript) -> None:
        super().__init__(job)
        self.model = model
        self.provider = provider
        self.transcript = transcript
        #: The journal has all that there is: a call may be made that will be paid for.
        self.on_record = threading.Event()
        self._begun = False
        self._brought = False
        self._call: concurrent.futures.Future[Any] | None = None
        self._lock = threading.Lock()

    def usage(self) -> Mapping[str, int]:
        """As the provider counts, or as it was estimated."""
        return self.transcript.usage()

    # -- called from the emitter thread

    def open_call(self, info: Mapping[str, Any]) -> None:
        """Write that a call of the provider is about to be made."""
        again = self._begun or (self.transcript.takeover is not None and bool(self.transcript.takeover.tried))
        self._begun, self._brought = True, False
        about = {"model": self.model.id, "provider": self.provider.name, "upstream": self._upstream, **info}
        self.event(EventType.RESUMED if again else EventType.STARTED, about)

    def take(self, piece: Piece) -> None:
        """Write what a call has brought."""
        if self.state is not None:
            return
        if piece.vector:
            self.add_vector(piece.index, piece.vector)
        elif piece.text or piece.tool_calls or piece.logprobs:
            self.extend(piece.index, text=piece.text, tool_calls=piece.tool_calls, lp=piece.logprobs)
            self.urgent = self.urgent or not self._brought
            self._brought = True
        if piece.finish:
            self.finish_choice(piece.index, piece.finish)

    def cancel(self) -> None:
        """End it as cancelled, and the call at once."""
        self.abort()
        super().cancel()

    def confirm(self, append: Append) -> None:
        """Redis has these."""
        super().confirm(append)
        if self.settled:
            self.on_record.set()

    # -- called from any thread

    def calling(self, call: concurrent.futures.Future[Any]) -> None:
        """Say which call is being made."""
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
