"""Chat and text completion on the customer's paths: plain, streamed, or as a background job."""

from __future__ import annotations

import contextlib
import select
from collections.abc import Mapping
from functools import partial
from typing import Any

from flask import Response, current_app, request
from flask_smorest import Blueprint

from gateway.jobs.record import Job
from gateway.views.whole_answer import whole
from gateway.watching.watcher import Watcher
from schemas.answers import ChatAnswerSchema, CompletionAnswerSchema
from schemas.embeddings import EmbeddingRequest, EmbeddingRequestSchema, EmbeddingsSchema
from schemas.envelope import enveloped
from schemas.examples import CHAT, COMPLETION, EMBEDDING, EMBEDDING_MODEL, path_example
from schemas.inference import (
    ChatRequest,
    ChatRequestSchema,
    CompletionRequest,
    CompletionRequestSchema,
)
from web.http import sse
from web.http.auth import authenticate
from web.http.body_parser import StrictParser
from web.http.envelope import caller, dialect, gateway, success
from web.http.submission import submit

blueprint = Blueprint("inference", __name__, url_prefix="/models", description="Ask a model")
blueprint.ARGUMENTS_PARSER = StrictParser()
blueprint.before_request(authenticate)


@blueprint.route("/<model:model_id>/chat/completions", methods=["POST"])
@blueprint.arguments(ChatRequestSchema(), examples=CHAT)
@blueprint.response(200, enveloped(ChatAnswerSchema))
def chat(body: ChatRequest, model_id: str) -> Response:
    """Go on with a conversation."""
    return answer("chat", model_id, body.given())


@blueprint.route("/<model:model_id>/completions", methods=["POST"])
@blueprint.arguments(CompletionRequestSchema(), examples=COMPLETION)
@blueprint.response(200, enveloped(CompletionAnswerSchema))
def completion(body: CompletionRequest, model_id: str) -> Response:
    """Go on with a text."""
    return answer("completion", model_id, body.given())


@blueprint.route("/<model:model_id>/embeddings", methods=["POST"], parameters=path_example("model_id", EMBEDDING_MODEL))
@blueprint.arguments(EmbeddingRequestSchema(), examples=EMBEDDING)
@blueprint.response(200, enveloped(EmbeddingsSchema))
def embedding(body: EmbeddingRequest, model_id: str) -> Response:
    """Turn texts into vectors."""
    return answer("embedding", model_id, body.given())


def answer(kind: str, model_id: str, body: Mapping[str, Any]) -> Response:
    """Submit a request, and answer as it asks: whole, as a stream, or with a job to poll."""
    submitted = submit(kind, model_id, body)
    if submitted.watcher is None:
        response = accepted(submitted.job)
        response.headers["Preference-Applied"] = "respond-async"
        return response
    if body.get("stream"):
        return event_stream(submitted.job, submitted.watcher, position=submitted.position)
    data = whole(gateway().inference, submitted, submitted.watcher, key=caller(), client_left=client_left)
    return success(data)


def accepted(job: Job) -> Response:
    """The response for a job that runs by itself."""
    location = f"{request.script_root}/jobs/{job.id}"
    data = {"job_id": job.id, "status": job.state.word, "location": location}
    response = success(data, status=202, message="accepted")
    response.headers["Location"] = location
    return response


def event_stream(job: Job, watcher: Watcher, *, position: int = 0) -> Response:
    """The response that streams a job. `position` is its position in the queue (0 = unknown).

    It is closed when the client leaves, even before the first byte. Raises: an error that is found before anything is
    shown, if that is the client's dialect.
    """
    with contextlib.ExitStack() as undo:
        undo.callback(watcher.close)
        begun = sse.first_events(watcher, dialect())
        undo.pop_all()
    body = sse.stream(
        job,
        watcher,
        dialect(),
        begun=begun,
        position=position,
        wait=partial(gateway().inference.waiting.wait, job),
        alive=current_app.extensions["headrace.alive"],
        limit_s=gateway().settings.stream_limit_s,
    )
    response = sse.response(body)
    response.headers["X-Job-Id"] = job.id
    response.call_on_close(watcher.close)
    return response


def client_left() -> bool:
    """Whether the client has closed its side, found without reading from it."""
    connection: Any = request.environ.get("gunicorn.socket")
    if connection is None:
        return False
    ended = select.poll()  # select() takes no descriptor above 1023
    try:
        ended.register(connection, select.POLLRDHUP)
        return bool(ended.poll(0))
    except (OSError, ValueError):  # it is closed
        return True
