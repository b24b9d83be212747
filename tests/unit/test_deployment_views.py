"""Deployments in the document's words: stages of several replicas as one, durations, and what clients are not told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gateway.cluster.startup import STAGES
from gateway.deployments.views import MAX_LOGS, chunks, detail, duration
from gateway.jobs.events import Event
from gateway.jobs.record import DEPLOYMENT, Job, JobState

LOADING = "model_loading"


def job(*replicas: str, state: JobState = JobState.RUNNING, **fields: Any) -> Job:
    wanted = [{"replica_id": name, "node": "n1", "device": "cpu0"} for name in replicas]
    request = {"wanted": wanted, "expected_s": dict.fromkeys(STAGES, 2.0)}
    return Job("deploy-1", state, DEPLOYMENT, "m", "k", request=request, created_at=1_000, **fields)


def events(*said: tuple[str, str, str, int]) -> list[Event]:
    """(replica, stage, status, time in ms)."""
    return [
        Event.from_entry(
            seq,
            {"type": "stage", "c": "x", "at": at, "replica": replica, "stage": stage, "status": status, "progress": 40},
        )
        for seq, (replica, stage, status, at) in enumerate(said, 1)
    ]


def stage_of(deployment: Job, *said: tuple[str, str, str, int], name: str = LOADING) -> dict[str, Any]:
    stages: list[dict[str, Any]] = detail(deployment, events(*said))["stages"]
    return next(stage for stage in stages if stage["name"] == name)


def test_stages_are_those_of_the_document_in_their_order() -> None:
    assert [stage["name"] for stage in detail(job("a"), [])["stages"]] == list(STAGES)
    assert detail(job("a"), [])["current_stage"] == next(iter(STAGES))


@pytest.mark.parametrize(
    ("first", "second", "word"),
    [
        ([], [], "pending"),
        (["in_progress"], [], "in_progress"),
        (["in_progress", "completed"], [], "in_progress"),  # the other has not begun with it
        (["in_progress", "completed"], ["in_progress"], "in_progress"),
        (["in_progress", "completed"], ["in_progress", "completed"], "completed"),
        (["in_progress", "completed"], ["in_progress", "failed"], "failed"),
    ],
)
def test_a_stage_of_two_replicas_is_over_when_it_is_for_both(first: list[str], second: list[str], word: str) -> None:
    said = [("a", LOADING, status, 10) for status in first] + [("b", LOADING, status, 20) for status in second]
    assert stage_of(job("a", "b"), *said)["status"] == word


def test_a_stage_takes_from_its_first_beginning_to_its_last_end() -> None:
    said = [
        ("a", LOADING, "in_progress", 1_000),
        ("b", LOADING, "in_progress", 3_000),
        ("a", LOADING, "completed", 5_000),
    ]
    assert "duration" not in stage_of(job("a", "b"), *said)
    assert stage_of(job("a", "b"), *said, ("b", LOADING, "completed", 13_000))["duration"] == "12s"


def test_a_replica_that_begins_anew_takes_back_what_comes_behind() -> None:
    said = [
        ("a", LOADING, "in_progress", 1),
        ("a", LOADING, "failed", 2),
        ("a", "model_initialization", "in_progress", 3),
    ]
    assert stage_of(job("a"), *said)["status"] == "pending"
    assert detail(job("a"), events(*said))["progress"] >= detail(job("a"), events(*said[:1]))["progress"]


def test_a_cancelled_deployment_has_a_cancelled_stage() -> None:
    assert stage_of(job("a", state=JobState.CANCELLED), ("a", LOADING, "in_progress", 1))["status"] == "cancelled"


def test_one_without_replicas_that_is_done_has_done_it_all() -> None:
    shown = detail(job(state=JobState.DONE), [])
    assert {stage["status"] for stage in shown["stages"]} == {"completed"}
    assert (shown["progress"], shown["estimated_completion"]) == (100, None)


def test_it_says_when_it_will_be_done_from_the_last_that_was_heard() -> None:
    said = events(*((("a", name, "completed", 9_000)) for name in list(STAGES)[:-1]))
    assert detail(job("a"), said)["estimated_completion"] == "1970-01-01T00:00:11.000Z"


def test_logs_are_the_last_and_facts_belong_to_their_replica() -> None:
    logs = [
        Event.from_entry(seq, {"type": "log", "c": "x", "at": seq, "level": "info", "message": str(seq)})
        for seq in range(1, MAX_LOGS + 6)
    ]
    facts = Event.from_entry(
        MAX_LOGS + 6,
        {"type": "facts", "c": "x", "at": 1, "replica": "b", "facts": {"status": "active", "planned_bytes": 7}},
    )
    shown = detail(job("a", "b"), [*logs, facts])
    assert [line["message"] for line in shown["logs"]] == [str(seq) for seq in range(6, MAX_LOGS + 6)]
    assert [(one["replica_id"], one["status"], one["planned_bytes"]) for one in shown["replicas"]] == [
        ("a", "pending", None),
        ("b", "active", 7),
    ]


def test_a_stream_has_the_documents_events_and_nothing_of_ours() -> None:
    (stage,) = events(("a", LOADING, "in_progress", 61_000))
    assert chunks(job("a"), stage)[0] == {
        **{"deployment_id": "deploy-1", "model_id": "m", "event": "stage", "timestamp": "1970-01-01T00:01:01.000Z"},
        **{"replica": "a", "stage": LOADING, "status": "in_progress", "progress": 40},
    }
    (done,) = chunks(job("a"), Event.from_entry(2, {"type": "done", "c": "x", "usage": {}}))
    assert done == {"deployment_id": "deploy-1", "model_id": "m", "event": "completed"}
    assert chunks(job("a"), Event.from_entry(1, {"type": "started", "c": "x"})) == []


def test_an_error_is_shown_as_the_job_has_it() -> None:
    error = {"reason": "OUT_OF_MEMORY", "message": "It does not fit."}
    failed = replace(job("a"), state=JobState.FAILED, error=error)
    assert (detail(failed, [])["status"], detail(failed, [])["error"]) == ("failed", error)
    assert detail(job("a"), [])["error"] is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0s"),
        (0.44, "0.4s"),
        (1, "1s"),
        (89.4, "89s"),
        (90, "2m"),
        (600, "10m"),
        (5400, "1.5h"),
        (86_400, "24.0h"),
    ],
)
def test_durations_are_written_as_the_document_does(seconds: float, text: str) -> None:
    assert duration(seconds) == text
