"""Streams as text, in the dialect of their client."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from openai._streaming import SSEDecoder

from gateway.cluster.loading import Loading
from gateway.errors import HeadraceError
from gateway.inference.waiting import Wait
from gateway.jobs.events import Event
from gateway.jobs.record import Job, JobState
from gateway.views.chunk_stream import ChunkStream
from web.http import sse
from web.http.dialect import Dialect, Plain
from web.http.openai import OpenAI

JOB = Job("chatcmpl-1", JobState.RUNNING, "chat", "fake", "key", {})
EVENTS = [
    [Event(2, {"type": "delta", "c": "a", "text": "old"})],
    [Event(1, {"type": "rewound", "c": "b", "text": {}})],
    [Event(2, {"type": "delta", "c": "b", "text": "new"})],
    [Event(3, {"type": "done", "c": "b", "usage": {}})],
]


def unknown(position: int) -> Wait:
    """How long one waits."""
    return Wait()


@pytest.mark.parametrize("dialect", [Plain("r-1"), OpenAI()], ids=["plain", "openai"])
def test_a_rewind_is_told_or_ends_the_stream(dialect: Dialect) -> None:
    watcher: Any = SimpleNamespace(seq=1, ended=True, events=lambda: iter(EVENTS))
    body = b"".join(
        sse.stream(JOB, watcher, dialect, begun=[], position=0, wait=unknown, alive=lambda: True, limit_s=0)
    ).decode()
    assert body.count('"code":"rewound"') == (not dialect.resumable)
    assert ('"rewound":' in body, '"new"' in body) == (dialect.resumable, dialect.resumable)
    assert body.endswith("data: [DONE]\n\n")


FAILED = [
    [Event(2, {"type": "delta", "c": "a", "text": "old"})],
    [Event(3, {"type": "failed", "c": "a", "error": {"reason": "engine_crashed", "message": "It died."}})],
]


@pytest.mark.parametrize(
    ("dialect", "said"),
    [
        (Plain("r-1"), 'event: error\ndata: {"code":500,"message":"It died.","data":{"reason":"engine_crashed"}'),
        (OpenAI(), 'data: {"error":{"message":"It died.","type":"server_error","param":null,"code":"engine_crashed"}'),
    ],
    ids=["plain", "openai"],
)
def test_an_error_is_told_in_the_clients_dialect(dialect: Dialect, said: str) -> None:
    watcher: Any = SimpleNamespace(seq=1, ended=True, events=lambda: iter(FAILED))
    body = b"".join(
        sse.stream(JOB, watcher, dialect, begun=[], position=0, wait=unknown, alive=lambda: True, limit_s=0)
    ).decode()
    text, _, error = body.partition("id: 3-a\n")
    assert "old" in text
    assert error.startswith(said)
    assert error.endswith("\n\ndata: [DONE]\n\n")


def test_how_long_a_client_waits_and_for_what_is_told_behind_its_position_if_it_is_known() -> None:
    """Clients read the position by the beginning of the line."""
    positions = iter([2, 1, 0])
    watcher: Any = SimpleNamespace(
        seq=0,
        ended=True,
        events=lambda: iter([[], [], *FAILED]),
        begun=[],
        position=lambda _: next(positions),
    )
    loading = Loading(40, "model_loading", 0.4)
    known = {3: Wait(), 2: Wait(12.0), 1: Wait(0.4, loading)}
    body = sse.stream(
        JOB, watcher, OpenAI(), begun=[], position=3, wait=known.__getitem__, alive=lambda: True, limit_s=0
    )
    assert [part.decode() for part in body][:3] == [
        ": queued position=3\n",
        ": queued position=2 eta=12\n",
        ": queued position=1 eta=0.4\n: loading 40 % stage=model_loading\n",
    ]


class Shouting(Plain):
    """A dialect of its own stream."""

    end = "event: over\n\n"

    def chunks(self, job: Job) -> ChunkStream[str]:
        return ChunkStream(job, Loud())


class Loud:
    """Only the text, and in capitals."""

    def begin(self, head: Mapping[str, Any]) -> None:
        self._model = head["model"]

    def text(self, event: Event, index: int, text: str) -> str:
        return f"{self._model}: {text.upper()}\n\n"

    def chunk(self, event: Event, chunk: dict[str, Any]) -> str:
        return "..."


def test_a_dialect_writes_chunks_and_the_end_in_its_own_way() -> None:
    events = [Event(1, {"type": "delta", "c": "a", "text": "old"}), Event(2, {"type": "done", "c": "a"})]
    watcher: Any = SimpleNamespace(seq=1, ended=True, events=lambda: iter([events]))
    stream = sse.stream(
        JOB,
        watcher,
        Shouting("r-1"),
        begun=[],
        position=3,
        wait=lambda position: Wait(1.5 * position),
        alive=lambda: True,
        limit_s=0,
    )
    assert [part.decode() for part in stream] == [": queued position=3 eta=4.5\n", "fake: OLD\n\nevent: over\n\n"]


def test_a_stream_that_begins_at_once_has_no_comment_before() -> None:
    watcher: Any = SimpleNamespace(seq=1, ended=True, events=lambda: iter(()))
    stream = sse.stream(
        JOB, watcher, Plain("r-1"), begun=EVENTS[0], position=1, wait=unknown, alive=lambda: True, limit_s=0
    )
    first, *_ = (part.decode() for part in stream)
    assert first.startswith(("id:", "data:", "event:"))


def test_comments_are_no_events_for_readers_that_keep_an_id() -> None:
    """OpenAI's SDK, and httpx-sse, take an empty line behind an event with an id for another one."""
    watcher: Any = SimpleNamespace(seq=1, ended=True, events=lambda: iter([[], [], *EVENTS[3:]]), position=lambda _: 0)
    body = sse.stream(JOB, watcher, OpenAI(), begun=EVENTS[0], position=1, wait=unknown, alive=lambda: True, limit_s=0)
    parts = list(body)
    assert sse.PING in parts
    assert all(event.data for event in SSEDecoder().iter_bytes(iter(parts)))


STARTED = Event(1, {"type": "started", "c": "a"})
CANCELLED = Event(2, {"type": "cancelled", "c": "a"})


def begun_with(*events: Event) -> Any:
    return SimpleNamespace(begin=lambda patience_s: list(events))


@pytest.mark.parametrize(("last", "reason"), [(FAILED[1][0], "engine_crashed"), (CANCELLED, "cancelled")])
def test_an_error_before_the_first_text_is_told_early_to_openais_clients(last: Event, reason: str) -> None:
    with pytest.raises(HeadraceError) as told:
        sse.first_events(begun_with(STARTED, last), OpenAI())
    assert told.value.reason == reason
    assert sse.first_events(begun_with(STARTED, last), Plain("r-1")) == [STARTED, last]


def test_an_error_behind_some_text_is_told_within_the_stream() -> None:
    events = [FAILED[0][0], FAILED[1][0]]
    assert sse.first_events(begun_with(*events), OpenAI()) == events
    assert sse.first_events(begun_with(), OpenAI()) == []
