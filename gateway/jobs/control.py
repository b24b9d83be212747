"""Ends jobs from outside the worker that runs them, as cancelled or failed, and publishes the end to their watchers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from gateway.jobs.events import Event, EventType
from gateway.jobs.job_kind import kind_of
from gateway.jobs.record import Job, JobState, new_claim_id
from gateway.jobs.store import JobStore
from gateway.store import keys

#: Why a job failed that has not begun within its timeout.
TOO_LATE, TOO_LATE_TEXT = "begins_too_late", "The job has not begun within its timeout; it was not started."


def cancel(store: JobStore, job: Job, *, reason: str, take_claim: str = "") -> str:
    """End or mark a job, and tell its watchers. Returns `cancelling` or an end state."""
    body = {"type": EventType.CANCELLED.value, "reason": reason}
    return end_job(store, job, JobState.CANCELLED, body, take_claim=take_claim)


def cancel_all(store: JobStore, key_id: str) -> int:
    """Cancel all jobs of one API key, and tell their watchers. Returns how many had not ended."""
    ids = list(cast("set[str]", store.redis.smembers(keys.open_jobs(key_id))))
    jobs = [job for job in store.read_many(ids) if job and not job.state.ended]
    for job in jobs:
        cancel(store, job, reason="key_revoked")
    return len(jobs)


def fail(store: JobStore, job: Job, *, reason: str, message: str, take_claim: str = "", **details: Any) -> str:
    """End a job as failed, and tell its watchers. `details` are what else the error says."""
    error = {"reason": reason, "message": message, **details}
    body = {"type": EventType.FAILED.value, "error": error}
    return end_job(store, job, JobState.FAILED, body, take_claim=take_claim)


def end_job(store: JobStore, job: Job, state: JobState, body: Mapping[str, Any], *, take_claim: str) -> str:
    """Run the end script and publish the terminal event if this call wrote it.

    The event has a new claim id: if Redis lost its last events, the event may reuse a seq that a client has seen.
    """
    body = {"c": new_claim_id(), **body}
    verdict, seq, watch = store.end(job, state, body, take_claim=take_claim)
    if verdict != "ended":
        return verdict
    kind_of(job.kind).on_end(store, job)
    store.journals.publish({hub: [(job.id, seq, [Event(seq, body).encoded])] for hub in watch})
    return state.value
