"""Jobs as clients see them, in the document's words."""

from __future__ import annotations

from typing import Any

from gateway.access.api_keys import KeyRecord
from gateway.deployments import views as deployment_views
from gateway.inference.service import Inference
from gateway.inference.waiting import Wait
from gateway.jobs.job_kind import kind_of
from gateway.jobs.record import DEPLOYMENT, Job, JobState
from schemas.base.times import iso


def summaries(inference: Inference, *, key: KeyRecord, status: str | None, limit: int) -> list[dict[str, Any]]:
    """The key's newest jobs, of one status or of all."""
    states = {state.word: state for state in JobState}
    jobs = inference.list(key=key, state=states.get(status or ""), limit=limit)
    queues = inference.waiting.places(jobs)
    root = inference.settings.root_path
    return [{**summary(job, root), **queues.get(job.id, {})} for job in jobs]


def detail(inference: Inference, job_id: str, *, key: KeyRecord) -> dict[str, Any]:
    """A job's state, and its result when it has ended. Raises: JobNotFound."""
    job = inference.get(job_id, key=key)
    root = inference.settings.root_path
    nothing = {"position": 0, **Wait().to_public()}
    data = {**summary(job, root), **nothing, **inference.waiting.places([job]).get(job.id, {})}
    if job.state in (JobState.DONE, JobState.CANCELLED):
        events = inference.store.journals.read(job_id)
        result = kind_of(job.kind).answer(inference.store, job, events)
        if job.kind == DEPLOYMENT:
            result |= deployment_views.links(job.id, root)
        data |= {"result": result, "usage": result.get("usage")}
    return data


def cancelled(inference: Inference, job_id: str, *, key: KeyRecord) -> dict[str, Any]:
    """Cancel a job. Returns its id and status. Raises: JobNotFound."""
    verdict = inference.cancel(job_id, key=key)
    return {"job_id": job_id, "status": verdict if verdict == "cancelling" else JobState(verdict).word}


def summary(job: Job, root: str) -> dict[str, Any]:
    """The fields that list and detail share. `root` is the root path of REST."""
    return {
        "job_id": job.id,
        "kind": job.kind,
        "model": job.model,
        "status": job.word,
        "priority": "background" if job.background else "interactive",
        "attempts": job.attempts,
        "created_at": iso(job.created_at),
        "started_at": iso(job.started_at),
        "finished_at": iso(job.finished_at),
        "usage": dict(job.usage) or None,
        "error": dict(job.error) or None,
        "events_url": f"{root}/jobs/{job.id}/events",
    }
