"""How often a worker writes to its streams."""

from __future__ import annotations

from typing import Any, cast

import pytest

from gateway.jobs import Job, JobState
from gateway.settings import Settings
from workers.claimed import ClaimedJob
from workers.journaler import BUSY_JOBS, Journaler


@pytest.mark.parametrize(
    ("jobs", "interval_s"), [(0, 0.03), (1, 0.03), (BUSY_JOBS // 2, 0.05), (BUSY_JOBS, 0.1), (4 * BUSY_JOBS, 0.1)]
)
def test_the_more_streams_the_less_often_each_is_written_to(jobs: int, interval_s: float) -> None:
    nothing = cast(Any, None)
    journaler = Journaler(settings=Settings(), store=nothing, celery=nothing, owner="w", on_drop=nothing)
    for number in range(jobs):
        journaler.hold(ClaimedJob(Job(f"chatcmpl-{number}", JobState.RUNNING, "chat", "fake", "key", {})))
    assert journaler.interval_s == pytest.approx(interval_s)
