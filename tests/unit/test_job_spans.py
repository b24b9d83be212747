"""The spans of a job: what its record and its timeline say of it, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gateway.jobs.events import Event
from gateway.jobs.record import JobHead, JobState
from gateway.models.entry import Provider
from gateway.process.trace_context import NONE, TraceContext
from gateway.tracing.job_spans import job_spans
from gateway.tracing.spans import Span
from gateway.views.timeline import Entry

TRACE = TraceContext(f"00-{'a' * 32}-{'b' * 16}-01", "v=1")
JOB = JobHead(
    "chatcmpl-1",
    JobState.DONE,
    "chat",
    "fake",
    "key-1",
    created_at=1000,
    finished_at=9000,
    usage={"prompt_tokens": 7, "completion_tokens": 5},
    traceparent=TRACE.traceparent,
    tracestate=TRACE.tracestate,
)


def claimed(at: int, claim: str, **more: Any) -> Entry:
    return Entry(at, "claimed", {"worker": f"w-{claim}", "claim": claim, "model": "fake", **more})


def spans(*entries: Entry, job: JobHead = JOB, provider: Provider | None = None) -> list[Span]:
    return job_spans(job, entries, [], lambda _: provider)


def shape(found: list[Span]) -> list[tuple[str, int, int]]:
    return [(span.name, span.began_at, span.ended_at) for span in found]


def test_each_claim_has_its_spans_and_each_wait() -> None:
    found = spans(
        Entry(1000, "queued", {"position": 3}),
        claimed(2000, "c1"),
        Entry(2500, "first_token", {"batch": 1}),
        Entry(4000, "batch", {"batch": 2}),
        Entry(5000, "interrupted", {"cause": "lost", "tokens": 9}),
        claimed(6000, "c2", behind_tokens=9),
        Entry(6500, "first_token", {"batch": 1}),
        Entry(9000, "done"),
    )
    assert shape(found) == [
        ("chat fake", 1000, 9000),
        ("queue", 1000, 2000),
        ("queue", 5000, 6000),
        ("claim", 2000, 5000),
        ("prefill", 2000, 2500),
        ("decode", 2500, 5000),
        ("claim", 6000, 9000),
        ("prefill", 6000, 6500),
        ("decode", 6500, 9000),
    ]
    job, first, _, claim, _, decode, second, *_ = found
    assert len({span.context.span_id for span in found}) == len(found)
    assert {span.context.trace_id for span in found} == {"a" * 32}
    assert (job.parent_id, claim.parent_id, decode.parent_id) == ("b" * 16, job.context.span_id, claim.context.span_id)
    assert (claim.error, claim.worker, second.links) == ("lost", "w-c1", [claim.context])
    assert first.attributes["headrace.queue.position"] == 3
    assert [at for _, at, _ in decode.events] == [2500, 4000]
    assert job.attributes["gen_ai.response.time_to_first_chunk"] == 1.5


@pytest.mark.parametrize(("cause", "error"), [("preempted", ""), ("given_back", ""), ("crashed", "crashed")])
def test_a_claim_that_was_given_back_has_not_failed(cause: str, error: str) -> None:
    found = spans(claimed(2000, "c1"), Entry(3000, "interrupted", {"cause": cause}), Entry(9000, "cancelled"))
    assert shape(found) == [
        ("chat fake", 1000, 9000),
        ("queue", 1000, 2000),
        ("queue", 3000, 9000),
        ("claim", 2000, 3000),
    ]
    assert found[-1].error == error


def test_a_job_that_failed_says_why_and_quotes_nothing() -> None:
    job = replace(JOB, state=JobState.FAILED, error={"reason": "engine_crashed", "message": "of my prompt"})
    (whole, *_) = spans(Entry(9000, "failed"), job=job)
    assert whole.error == "engine_crashed"
    assert "of my prompt" not in str(whole)


def test_a_call_of_a_provider_is_one_span_that_its_worker_has_named() -> None:
    provider = Provider("openrouter", "openai", base_url="https://openrouter.example/api/v1")
    found = spans(claimed(2000, "c1"), Entry(2500, "first_token"), Entry(9000, "done"), provider=provider)
    call = found[-1]
    assert (call.name, call.outgoing, call.context) == ("chat fake", True, JOB.claim_span("c1"))
    assert call.attributes["gen_ai.provider.name"] == "openrouter"
    assert (call.attributes["server.address"], call.attributes["server.port"]) == ("openrouter.example", 443)


def test_stages_of_a_deployment_are_spans() -> None:
    def stage(at: int, name: str, status: str) -> Event:
        return Event(1, {"type": "stage", "at": at, "replica": "r1", "stage": name, "status": status})

    job = replace(JOB, kind="deployment", id="deploy-1")
    stages = [
        stage(2000, "preparation", "in_progress"),
        stage(2100, "preparation", "in_progress"),
        stage(3000, "preparation", "completed"),
        stage(3000, "model_loading", "in_progress"),
        stage(4000, "model_loading", "failed"),
        stage(5000, "model_loading", "in_progress"),
    ]
    whole, *rest = job_spans(job, [], stages, lambda _: None)
    assert (whole.name, shape(rest)) == (
        "deploy fake",
        [("preparation", 2000, 3000), ("model_loading", 3000, 4000)],
    )
    assert [span.error for span in rest] == ["", "failed"]


@pytest.mark.parametrize("header", ["", "x", TRACE.traceparent + "\n", TRACE.traceparent.upper(), "00-1-2-3"])
def test_a_record_whose_trace_can_not_be_has_none(header: str) -> None:
    job = replace(JOB, traceparent=header)
    assert (job.trace, job.span, job.trace.headers, job.log_ids["trace_id"]) == (NONE, NONE, {}, "")


@pytest.mark.parametrize("value", [-1, 2**70, 1e300, "7", None, [1]])
def test_a_number_that_can_not_be_is_none(value: Any) -> None:
    """One that no exporter can encode would take the spans of other jobs with it."""
    assert Entry(1, "claimed", {"behind_tokens": value}).number("behind_tokens") == 0


def test_what_a_state_may_hold_is_bounded() -> None:
    assert TraceContext.read(TRACE.traceparent, "a=b").headers["tracestate"] == "a=b"
    for state in ("a" * 513, "a=\r\nX-Evil: 1", "", " "):
        assert "tracestate" not in TraceContext.read(TRACE.traceparent, state).headers
