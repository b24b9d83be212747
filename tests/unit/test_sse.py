"""Streams as text: what a client that can't take text back hears of a journal that lost its end."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from gateway.jobs.record import Event, Job, JobState
from web.http import sse

JOB = Job("chatcmpl-1", JobState.RUNNING, "chat", "fake", "key", {})
EVENTS = [
    [Event(2, {"type": "delta", "c": "a", "text": "old"})],
    [Event(1, {"type": "rewound", "c": "b", "text": {}})],
    [Event(2, {"type": "delta", "c": "b", "text": "new"})],
    [Event(3, {"type": "done", "c": "b", "usage": {}})],
]


@pytest.mark.parametrize(("resumable", "errors"), [(True, 0), (False, 1)])
def test_a_rewind_is_told_or_ends_the_stream(resumable: bool, errors: int) -> None:
    watcher: Any = SimpleNamespace(seq=1, ended=True, events=lambda: iter(EVENTS))
    body = b"".join(
        sse.stream(
            JOB,
            watcher,
            position=0,
            render_error=lambda error: f"data: {error.reason}\n\n",
            alive=lambda: True,
            limit_s=0,
            resumable=resumable,
        )
    ).decode()
    assert body.count("data: rewound") == errors
    assert ('"rewound":' in body, "new" in body) == (resumable, resumable)
    assert body.endswith("data: [DONE]\n\n")
