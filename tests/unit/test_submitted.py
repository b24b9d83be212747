"""What both faces say of a request that has become a job, and whether the job needs its client."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.access.limits import Quota
from gateway.inference.service import Submitted
from gateway.jobs.record import Job, JobState
from web.request_ids import request_id


def job(**fields: Any) -> Job:
    return Job("job-1", JobState.QUEUED, "chat", "m", "key", **{"request": {}, **fields})


@pytest.mark.parametrize(
    ("fields", "detached"),
    [
        ({}, False),
        ({"request": {"detach": False}}, False),
        ({"request": {"detach": True}}, True),
        ({"fingerprint": "ab"}, True),
        ({"background": True}, False),  # of lower priority, which says nothing of its client
    ],
)
def test_a_job_goes_on_without_its_client_if_that_may_come_back(fields: dict[str, Any], detached: bool) -> None:
    assert job(**fields).detached is detached


def test_headers_name_the_job_and_what_is_left_to_the_key() -> None:
    assert Submitted(job(), None).headers() == {"X-Job-Id": "job-1"}
    assert Submitted(job(), None, replayed=True).headers() == {"X-Job-Id": "job-1", "Idempotent-Replayed": "true"}
    headers = Submitted(job(), None, quota=Quota(5, 4, 0, 0, 2.5)).headers()
    assert headers == {
        "X-Job-Id": "job-1",
        "x-ratelimit-limit-requests": "5",
        "x-ratelimit-remaining-requests": "4",
        "x-ratelimit-reset-requests": "2.500s",
    }


@pytest.mark.parametrize("wanted", ["a", "A.b_c:d-9", "x" * 128])
def test_a_client_may_name_its_request(wanted: str) -> None:
    assert request_id(wanted) == wanted


@pytest.mark.parametrize("wanted", ["", "x" * 129, "a b", "a\n", "é"])
def test_else_the_request_gets_a_name_that_is_new(wanted: str) -> None:
    found = {request_id(wanted) for _ in range(10)}
    assert len(found) == 10
    assert {len(name) for name in found} == {32}
