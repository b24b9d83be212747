"""Chat and completion, plain and streamed, and embeddings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.protobuf.message import Message
from marshmallow import Schema, ValidationError

from gateway.errors import HeadraceError
from gateway.inference.service import Submitted
from gateway.jobs.record import Job
from gateway.process import log_context
from gateway.views.whole_answer import whole
from gateway.watching.watcher import Watcher
from schemas.base.bounds import require_bounded
from schemas.embeddings import EmbeddingRequestSchema
from schemas.inference import ChatRequestSchema, CompletionRequestSchema, JobRequest
from web.client_errors import client_error
from web.rpc.answers import answer
from web.rpc.call import Call
from web.rpc.chunks import message_chunks
from web.rpc.messages import chat_body, completion_body, embedding_body, require_few
from web.rpc.stream import Stream
from web.rpc.stubs import model_pb2 as pb

Request = pb.ChatCompletionRequest | pb.CompletionRequest | pb.EmbeddingsRequest

#: For each request: the kind of its job, the conversion to REST's body, and the schema that loads it.
_KINDS: dict[type[Message], tuple[str, Callable[[Any], dict[str, Any]], Schema]] = {
    pb.ChatCompletionRequest: ("chat", chat_body, ChatRequestSchema()),
    pb.CompletionRequest: ("completion", completion_body, CompletionRequestSchema()),
    pb.EmbeddingsRequest: ("embedding", embedding_body, EmbeddingRequestSchema()),
}


def read(request: Request, most: int) -> tuple[str, JobRequest]:
    """The kind of job that a request asks for, and its body, with at most `most` values.

    Raises: marshmallow.ValidationError.
    """
    kind, as_body, schema = _KINDS[type(request)]
    require_few(request, most)
    found = as_body(request)
    require_bounded(found, most)
    body: JobRequest = schema.load(found)
    return kind, body


def create_chat_completion(call: Call, request: pb.ChatCompletionRequest) -> Message:
    """Go on with a conversation."""
    return _whole(call, request)


def create_chat_completion_stream(call: Call, request: pb.ChatCompletionRequest) -> Stream:
    """The same, piece by piece."""
    return _stream(call, request)


def create_completion(call: Call, request: pb.CompletionRequest) -> Message:
    """Go on with a text."""
    return _whole(call, request)


def create_completion_stream(call: Call, request: pb.CompletionRequest) -> Stream:
    """The same, piece by piece."""
    return _stream(call, request)


def create_embeddings(call: Call, request: pb.EmbeddingsRequest) -> Message:
    """Turn texts into vectors."""
    return _whole(call, request)


def submit(call: Call, request: Request, *, background: bool = False) -> Submitted:
    """Submit a request, and send the job's id to the client at once. Raises: as `Inference.submit`."""
    try:
        kind, body = read(request, call.gateway.settings.max_body_values)
        submitted = call.gateway.inference.submit(
            kind,
            request.model_id,
            body.given(),
            key=call.key,
            background=background,
            idempotency_key=call.header("idempotency-key"),
            timeout_s=None if background or _outlives(call, body) else call.left_s,
        )
    except (HeadraceError, ValidationError) as error:
        found = call.gateway.inference.limits.refuse(call.key, client_error(error, ""))
        if found.headers:
            call.answer(found.headers)
        raise found from error
    call.job_id = submitted.job.id
    log_context.note(job_id=call.job_id, model=submitted.job.served_as)
    headers = submitted.headers() | {"X-Queue-Position": str(submitted.position)}
    call.answer({name.lower(): value for name, value in headers.items()})
    return submitted


def _outlives(call: Call, body: JobRequest) -> bool:
    """Whether the job goes on without its client, so that the call's deadline says nothing of it."""
    return body.detach or call.header("idempotency-key") is not None


def _whole(call: Call, request: Request) -> Message:
    submitted = submit(call, request)
    watcher = submitted.watcher
    assert watcher is not None
    call.on_end(watcher.wake)
    data = whole(call.gateway.inference, submitted, watcher, key=call.key, client_left=lambda: _left(call))
    return answer(submitted.job.kind, data)


def _left(call: Call) -> bool:
    """Whether the client is gone, or its deadline has passed. Raises: Unavailable when this process ends."""
    call.require_running()
    return call.gone


def _stream(call: Call, request: Request) -> Stream:
    submitted = submit(call, request)
    job, watcher = submitted.job, submitted.watcher
    assert watcher is not None
    call.defer(watcher.close)  # an open watcher would keep its job running
    if not job.detached:
        call.defer(lambda: _too_late(call, job, watcher))
    return Stream(watcher, message_chunks(job).encode)


def _too_late(call: Call, job: Job, watcher: Watcher) -> None:
    """Cancel the job: the client's deadline has passed, so it will not come back."""
    if not watcher.ended and call.gone and call.deadline_exceeded:
        call.gateway.inference.cancel(job.id, key=call.key)
