"""Every request is a job: list, read, follow and cancel it."""

from __future__ import annotations

from flask import Response, g, request
from flask_smorest import Blueprint

from gateway.errors import InvalidRequest
from gateway.inference.replay import replay as ask_again
from gateway.views import jobs as job_views
from gateway.views.timeline import timeline as timeline_view
from schemas.envelope import enveloped
from schemas.jobs import (
    CancelledJobSchema,
    JobAcceptedSchema,
    JobListQuerySchema,
    JobListSchema,
    JobQuery,
    JobSchema,
    TimelineSchema,
)
from web.http.auth import authenticate
from web.http.body_parser import StrictParser
from web.http.envelope import caller, gateway, success
from web.rest.inference import accepted, event_stream

blueprint = Blueprint("jobs", __name__, url_prefix="/jobs", description="Follow, read and cancel jobs")
blueprint.ARGUMENTS_PARSER = StrictParser()
blueprint.before_request(authenticate)


@blueprint.route("")
@blueprint.arguments(JobListQuerySchema, location="query")
@blueprint.response(200, enveloped(JobListSchema))
def jobs(query: JobQuery) -> Response:
    """Jobs of this key, newest first, a page at a time; an admin sees those of all keys, or of the one that it names.

    A page goes on exactly behind the last one, whatever was added or has ended meanwhile.
    """
    return success(job_views.page(gateway().inference, gateway().credentials, query, key=caller()))


@blueprint.route("/<job_id>")
@blueprint.response(200, enveloped(JobSchema))
def job(job_id: str) -> Response:
    """A job's state, and its result when it has ended."""
    return success(job_views.detail(gateway().inference, job_id, key=caller()))


@blueprint.route("/<job_id>/events")
@blueprint.response(200, content_type="text/event-stream")
def events(job_id: str) -> Response:
    """The same stream as the request's own, from the start or from behind `Last-Event-ID`."""
    seq, claim = cursor(request.headers.get("Last-Event-ID", ""))
    found = gateway().inference.get(job_id, key=caller())
    return event_stream(found, gateway().hub.watch(found.id, after=seq, claim=claim))


@blueprint.route("/<job_id>/timeline")
@blueprint.response(200, enveloped(TimelineSchema))
def timeline(job_id: str) -> Response:
    """What has happened to a job, and when: waiting, claims, interruptions, resumes, its end."""
    return success(timeline_view(gateway().inference, job_id, key=caller()))


@blueprint.route("/<job_id>/replay", methods=["POST"])
@blueprint.response(202, enveloped(JobAcceptedSchema))
def replay(job_id: str) -> Response:
    """Ask the same again: a new job, which runs in the background, on the account of the caller's key."""
    idempotency_key = request.headers.get("Idempotency-Key")
    submitted = g.submitted = ask_again(gateway().inference, job_id, key=caller(), idempotency_key=idempotency_key)
    return accepted(submitted.job)


@blueprint.route("/<job_id>", methods=["DELETE"])
@blueprint.response(200, enveloped(CancelledJobSchema))
def cancel(job_id: str) -> Response:
    """Cancel a job. Once more does no harm."""
    return success(job_views.cancelled(gateway().inference, job_id, key=caller()))


def cursor(text: str) -> tuple[int, str]:
    """`Last-Event-ID` as (seq, claim). Raises: InvalidRequest."""
    seq, _, claim = text.partition("-")
    if not text:
        return 0, ""
    if not seq.isascii() or not seq.isdigit() or len(seq) > 15:
        raise InvalidRequest(f"Last-Event-ID is {text[:40]!r}; it must be the 'id' of an event of this job.")
    return int(seq), claim
