"""Chat and completion: plain and streamed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gateway import results
from gateway.answers import whole
from gateway.errors import RateLimited
from gateway.inference import Submitted
from gateway.jobs import Job
from gateway.watch import Watcher
from schemas.inference import ChatRequestSchema, CompletionRequestSchema, InferenceRequest
from web.rpc.call import Call
from web.rpc.chunks import ChunkEncoder
from web.rpc.messages import build, chat_body, completion_body
from web.rpc.stubs import model_pb2 as pb

_CHAT, _COMPLETION = ChatRequestSchema(), CompletionRequestSchema()


def read(request: pb.ChatCompletionRequest | pb.CompletionRequest) -> tuple[str, InferenceRequest]:
    """The kind of job that a request asks for, and its body. Raises: marshmallow.ValidationError."""
    if isinstance(request, pb.ChatCompletionRequest):
        return "chat", _CHAT.load(chat_body(request))
    return "completion", _COMPLETION.load(completion_body(request))


def create_chat_completion(call: Call, request: pb.ChatCompletionRequest) -> pb.ChatCompletionResponse:
    """Go on with a conversation."""
    return build(pb.ChatCompletionResponse, _whole(call, request))


def create_chat_completion_stream(call: Call, request: pb.ChatCompletionRequest) -> Iterator[bytes]:
    """The same, piece by piece."""
    return _stream(call, request)


def create_completion(call: Call, request: pb.CompletionRequest) -> pb.CompletionResponse:
    """Go on with a text."""
    return build(pb.CompletionResponse, _whole(call, request))


def create_completion_stream(call: Call, request: pb.CompletionRequest) -> Iterator[bytes]:
    """The same, piece by piece."""
    return _stream(call, request)


def submit(
    call: Call, request: pb.ChatCompletionRequest | pb.CompletionRequest, *, background: bool = False
) -> Submitted:
    """Queue a request, and tell the client at once which job it is. Raises: as `Inference.submit`."""
    kind, body = read(request)
    try:
        submitted = call.gateway.inference.submit(
            kind,
            request.model_id,
            body.given(),
            key=call.key,
            background=background,
            idempotency_key=call.header("idempotency-key"),
        )
    except RateLimited as error:
        call.answer(error.quota.headers())
        raise
    call.job_id = submitted.job.id
    headers = {"x-job-id": submitted.job.id, "x-queue-position": str(submitted.position)}
    if submitted.replayed:
        headers["idempotent-replayed"] = "true"
    call.answer(headers | (submitted.quota.headers() if submitted.quota else {}))
    return submitted


def follow(call: Call, watcher: Watcher) -> Iterator[list[Any]]:
    """Batches of events as they come, until the job ends or the client is gone.

    Raises: the error that the job ended with; Unavailable when this process is to end.
    """
    call.on_end(watcher.wake)
    try:
        for events in watcher.events():
            if call.gone:
                return
            yield events
            if events and (error := results.failure(events[-1])):
                raise error
            if not watcher.ended:
                call.require_running()
    finally:
        watcher.close()


def _whole(call: Call, request: pb.ChatCompletionRequest | pb.CompletionRequest) -> dict[str, Any]:
    submitted = submit(call, request)
    watcher = submitted.watcher
    assert watcher is not None
    call.on_end(watcher.wake)
    return whole(call.gateway.inference, submitted, watcher, key=call.key, client_left=lambda: _left(call))


def _left(call: Call) -> bool:
    """Whether the client is gone, or its deadline. Raises: Unavailable when this process is to end."""
    call.require_running()
    return call.gone


def _stream(call: Call, request: pb.ChatCompletionRequest | pb.CompletionRequest) -> Iterator[bytes]:
    submitted = submit(call, request)
    job, watcher = submitted.job, submitted.watcher
    assert watcher is not None
    chunks = ChunkEncoder(job)
    try:
        for events in follow(call, watcher):
            for event in events:
                yield from chunks.encode(event)
    finally:
        if not watcher.ended and call.gone and call.late and not _stays(job):
            call.gateway.inference.cancel(job.id, key=call.key)


def _stays(job: Job) -> bool:
    """Whether it goes on without its client."""
    return bool(job.request.get("detach") or job.fingerprint)
