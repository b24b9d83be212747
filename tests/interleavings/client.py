"""A client of the sequences: what it has seen of one job, as it would show it."""

from __future__ import annotations

from gateway.jobs.events import Event, EventType
from gateway.watching.watcher import Watcher
from tests.interleavings.wire import WIRE


class Client:
    """What one client has seen of one job, as it would show it."""

    def __init__(self, job_id: str, watcher: Watcher) -> None:
        self.job_id = job_id
        self.watcher = watcher
        #: By choice.
        self.text: dict[int, str] = {}
        #: Entries that its text is made of, since it was told what stands.
        self.kept: list[Event] = []
        self.end: EventType | None = None
        #: The process of Redis that was there when it ended.
        self.run_id = ""
        self.expired = False

    def read(self) -> None:
        """Take what is there, as an event loop does."""
        if self.watcher.ended:
            return
        if self.watcher.lagging:
            for events in self.watcher.catch_up():
                self._see(events)
        while (events := self.watcher.take()) is not None:
            self._see(events)

    def _see(self, events: list[Event]) -> None:
        for event in events:
            assert self.end is None, f"{self.job_id}: {event} came behind the end"
            if event.type in (EventType.REWOUND, EventType.COMPACTED):
                self.text = {int(index): text for index, text in event.body["text"].items()}
                self.kept = []
                continue
            if event.type is EventType.EXPIRED:
                self.expired = True
                continue
            self.kept.append(event)
            deltas = event.body["choices"] if event.type is EventType.SNAPSHOT else [event.body]
            for delta in deltas:
                index = delta.get("index", 0)
                self.text[index] = self.text.get(index, "") + delta.get("text", "")
            if event.type.terminal:
                self.end, self.run_id = event.type, WIRE.run_id
