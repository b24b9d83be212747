"""Every request is a job: list, read, follow and cancel it."""

from __future__ import annotations

import datetime
from typing import Any

from flask import Response, request
from flask_smorest import Blueprint

from gateway import results
from gateway.errors import InvalidRequest
from gateway.jobs import Job, JobState
from schemas.envelope import enveloped
from schemas.jobs import JobListQuerySchema, JobListSchema, JobSchema
from web.auth import authenticate
from web.envelope import caller, gateway, success
from web.parser import StrictParser
from web.rest.inference import event_stream

blueprint = Blueprint("jobs", __name__, url_prefix="/jobs", description="Follow, read and cancel jobs")
blueprint.ARGUMENTS_PARSER = StrictParser()
blueprint.before_request(authenticate)


@blueprint.route("")
@blueprint.arguments(JobListQuerySchema, location="query")
@blueprint.response(200, enveloped(JobListSchema))
def jobs(query: dict[str, Any]) -> Response:
    """Jobs of this key, newest first."""
    states = {state.word: state for state in JobState}
    found = gateway().inference.list(key=caller(), state=states.get(query["status"]), limit=query["limit"])
    return success({"jobs": [summary(job) for job in found]})


@blueprint.route("/<job_id>")
@blueprint.response(200, enveloped(JobSchema))
def job(job_id: str) -> Response:
    """A job's state, and its result when it has ended."""
    found = gateway().inference.get(job_id, key=caller())
    data = {**summary(found), "position": gateway().inference.position(found)}
    if found.state in (JobState.DONE, JobState.CANCELLED):
        events = gateway().store.journal(job_id)
        data |= {"result": results.response(found, events), "usage": results.usage(events)}
    return success(data)


@blueprint.route("/<job_id>/events")
@blueprint.response(200, content_type="text/event-stream")
def events(job_id: str) -> Response:
    """The same stream as the request's own, from the start or from behind `Last-Event-ID`."""
    seq, claim = cursor(request.headers.get("Last-Event-ID", ""))
    found = gateway().inference.get(job_id, key=caller())
    return event_stream(found, gateway().inference.watch(job_id, key=caller(), after=seq, claim=claim))


@blueprint.route("/<job_id>", methods=["DELETE"])
@blueprint.response(200, enveloped(JobSchema))
def cancel(job_id: str) -> Response:
    """Cancel a job. Once more does no harm."""
    verdict = gateway().inference.cancel(job_id, key=caller())
    word = verdict if verdict == "cancelling" else JobState(verdict).word
    return success({"job_id": job_id, "status": word})


def cursor(text: str) -> tuple[int, str]:
    """`Last-Event-ID` as (seq, claim). Raises: InvalidRequest."""
    seq, _, claim = text.partition("-")
    if not text:
        return 0, ""
    if not seq.isascii() or not seq.isdigit() or len(seq) > 15:
        raise InvalidRequest(f"Last-Event-ID is {text[:40]!r}; it must be the 'id' of an event of this job.")
    return int(seq), claim


def summary(found: Job) -> dict[str, Any]:
    """What the list and the single job share."""
    return {
        "job_id": found.id,
        "kind": found.kind,
        "model": found.model,
        "status": "cancelling" if found.cancel and not found.state.ended else found.state.word,
        "priority": "background" if found.background else "interactive",
        "attempts": found.attempts,
        "created_at": _iso(found.created_at),
        "started_at": _iso(found.started_at),
        "finished_at": _iso(found.finished_at),
        "usage": dict(found.usage) or None,
        "error": dict(found.error) or None,
        "events_url": f"/jobs/{found.id}/events",
    }


def _iso(time_ms: int) -> str | None:
    if not time_ms:
        return None
    return datetime.datetime.fromtimestamp(time_ms / 1000, datetime.UTC).isoformat(timespec="milliseconds")
