"""Jobs as clients see them, in the document's words."""

from __future__ import annotations

from typing import Any

from gateway.access.api_keys import Credentials, KeyRecord
from gateway.deployments import views as deployment_views
from gateway.errors import InvalidRequest
from gateway.inference import job_list
from gateway.inference.job_list import JobFilter, Place
from gateway.inference.service import Inference
from gateway.inference.waiting import Wait
from gateway.jobs.job_kind import kind_of
from gateway.jobs.kinds import KINDS
from gateway.jobs.record import DEPLOYMENT, OURS, JobHead, JobState
from gateway.views.api_keys import visible_keys
from schemas.base.times import iso
from schemas.jobs import JobQuery


def page(inference: Inference, credentials: Credentials, query: JobQuery, *, key: KeyRecord) -> dict[str, Any]:
    """A page of the jobs that this key may see, newest first: its own; an admin's of all keys, or of the one it names.

    Raises:
        InvalidRequest, PermissionDenied, NotFound, Conflict.
    """
    if query.kind and query.kind not in KINDS:
        raise InvalidRequest.of({"kind": [f"Got {query.kind!r:.80}; allowed: {', '.join(KINDS)}."]})
    states = {state.word: state for state in JobState}
    wanted = JobFilter(states.get(query.status), query.model, query.kind, query.since_ms)
    after = Place.parse(query.cursor) if query.cursor else None
    found = job_list.page(inference.store, _key_ids(credentials, query, key), wanted, limit=query.limit, after=after)
    queues = inference.waiting.places(found.jobs)
    root = inference.settings.root_path
    jobs = [{**summary(job, root), **queues.get(job.id, {})} for job in found.jobs]
    return {"jobs": jobs, "next_cursor": str(found.cursor) if found.cursor else None}


def _key_ids(credentials: Credentials, query: JobQuery, key: KeyRecord) -> list[str]:
    if "admin" in key.scopes and query.key is None:
        return [OURS, *credentials.ids()]
    return list(visible_keys(credentials, query.key, key))


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


def summary(job: JobHead, root: str) -> dict[str, Any]:
    """The fields that list and detail share. `root` is the root path of REST."""
    return {
        "job_id": job.id,
        "kind": job.kind,
        "model": job.model,
        "key_id": job.key_id,
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
