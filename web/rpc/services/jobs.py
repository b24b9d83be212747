"""Every request is a job: start, list, read, follow and cancel it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from gateway.cluster.loading import Loading
from gateway.errors import InvalidRequest
from gateway.inference.waiting import Wait
from gateway.jobs.events import Event
from gateway.jobs.record import Job
from gateway.metrics.last_hour import last_hour
from gateway.views import jobs as job_views
from gateway.views.backlog import queues
from gateway.views.chunk_stream import ChunkStream
from gateway.watching.watcher import Watcher
from schemas.cluster.backlog import QueueQuerySchema
from schemas.jobs import JobListQuerySchema, JobQuery
from web.rpc.answers import answer
from web.rpc.call import Call
from web.rpc.chunks import as_job_event, message_chunks
from web.rpc.messages import build, to_dict
from web.rpc.services.inference import submit
from web.rpc.stream import Stream, watch
from web.rpc.stubs import model_pb2 as pb


def create_job(call: Call, request: pb.CreateJobRequest) -> pb.Job:
    """Queue a request; it runs on without its client."""
    kind = request.WhichOneof("request")
    if kind is None:
        raise InvalidRequest.of({"request": ["Missing; give chat, completion or embedding."]})
    submitted = submit(call, getattr(request, kind), background=True)
    job, position = submitted.job, submitted.position
    wait = call.gateway.inference.waiting.wait(job, position) if position else Wait()
    root = call.gateway.settings.root_path
    return _message({**job_views.summary(job, root), "position": position, **wait.to_public()})


def get_job(call: Call, request: pb.GetJobRequest) -> pb.Job:
    """A job's state, and its result when it has ended."""
    return _message(job_views.detail(call.gateway.inference, request.job_id, key=call.key))


def list_jobs(call: Call, request: pb.ListJobsRequest) -> pb.ListJobsResponse:
    """A page of the jobs of this key, newest first; an admin sees those of all keys, or of the one that it names."""
    query: JobQuery = JobListQuerySchema().load(to_dict(request))
    found = job_views.page(call.gateway.inference, call.gateway.credentials, query, key=call.key)
    return pb.ListJobsResponse(jobs=map(_message, found["jobs"]), next_cursor=found["next_cursor"])


def cancel_job(call: Call, request: pb.CancelJobRequest) -> pb.CancelJobResponse:
    """Cancel a job. Once more does no harm."""
    return build(pb.CancelJobResponse, job_views.cancelled(call.gateway.inference, request.job_id, key=call.key))


def watch_job(call: Call, request: pb.WatchJobRequest) -> Stream:
    """The same stream as the request's own, from the start or from behind a cursor."""
    job = call.gateway.inference.get(request.job_id, key=call.key)
    watcher = watch(call, job, request)
    return Stream(watcher, partial(_encode, message_chunks(job), job.kind), _Waiting(call, watcher, job).message)


def _encode(chunks: ChunkStream[bytes], kind: str, event: Event) -> list[bytes]:
    return [as_job_event(kind, chunk) for chunk in chunks.encode(event)]


class _Waiting:
    """Reports the position in the queue and how far the model is loaded, whenever one of them has changed, and how long
    one waits there.
    """

    def __init__(self, call: Call, watcher: Watcher, job: Job) -> None:
        self._inference, self._watcher, self._job = call.gateway.inference, watcher, job
        self._sent: tuple[int, Loading | None] = (-1, None)

    def message(self) -> bytes | None:
        position = self._watcher.position(self._job.runs_on)
        if position is None:
            return None
        wait = self._inference.waiting.wait(self._job, position) if position else Wait()
        news = position, wait.loading and replace(wait.loading, left_s=0)
        if news == self._sent:
            return None
        self._sent = news
        waiting = build(pb.JobWaiting, {"position": position, **wait.to_public()})
        return pb.JobEvent(waiting=waiting).SerializeToString()


def get_queue(call: Call, request: pb.GetQueueRequest) -> pb.GetQueueResponse:
    """How many jobs wait for each model, for how long the first has waited, and what serves them."""
    call.key.require("deploy")
    query = QueueQuerySchema().load(to_dict(request))
    return build(pb.GetQueueResponse, {"models": queues(call.gateway.inference, query["model"])})


def get_history(call: Call, request: pb.GetHistoryRequest) -> pb.GetHistoryResponse:
    """The last hour in points of half a minute, and its ends, failures, error replies and calls to providers."""
    call.key.require("deploy")
    return build(pb.GetHistoryResponse, last_hour(call.gateway.redis))


def _message(data: dict[str, Any]) -> pb.Job:
    """A job as a message, its result under the name of its kind."""
    result = data.pop("result", None)
    message = build(pb.Job, data)
    if result:
        getattr(message, data["kind"]).CopyFrom(answer(data["kind"], result))
    return message
