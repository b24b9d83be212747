"""The OpenAI-compatible face: point an OpenAI client's base URL at `/v1`. The same services as everywhere else."""

from __future__ import annotations

from typing import Any

from flask import Response, g, request
from flask_smorest import Blueprint

from gateway.models.entry import Model
from schemas.embeddings import EmbeddingRequest, EmbeddingsSchema
from schemas.examples import CHAT, CHAT_MODEL, COMPLETION, EMBEDDING, EMBEDDING_MODEL, with_model
from schemas.inference import ChatAnswerSchema, ChatRequest, CompletionAnswerSchema, CompletionRequest
from schemas.openai import (
    OpenAIChatSchema,
    OpenAICompletionSchema,
    OpenAIEmbeddingSchema,
    OpenAIModelListSchema,
    OpenAIModelSchema,
)
from web.http.auth import authenticate
from web.http.body_parser import StrictParser
from web.http.envelope import caller, gateway, success
from web.http.openai import OpenAI
from web.rest.inference import answer

blueprint = Blueprint("openai", __name__, url_prefix="/v1", description="For OpenAI's clients")
blueprint.ARGUMENTS_PARSER = StrictParser()
blueprint.before_request(authenticate)


@blueprint.before_app_request
def _speak() -> None:
    """For each path below its own, also where no view is: OpenAI's clients are to understand that there is none."""
    if request.path.startswith(f"{blueprint.url_prefix}/"):
        g.dialect = OpenAI()


@blueprint.route("/models")
@blueprint.response(200, OpenAIModelListSchema)
def models() -> Response:
    """The models that this key can ask now: a request is taken, also by one that sleeps, loads or has a fallback."""
    key, found = caller(), gateway()
    usable = [model for model in found.catalog.seen_by(key) if found.inference.router.takes(model)]
    return success({"object": "list", "data": [_entry(model) for model in usable]})


@blueprint.route("/models/<model:model_id>")
@blueprint.response(200, OpenAIModelSchema)
def model(model_id: str) -> Response:
    """One model of the catalog, whatever its state."""
    return success(_entry(gateway().catalog.get_for(caller(), model_id)))


@blueprint.route("/chat/completions", methods=["POST"])
@blueprint.arguments(OpenAIChatSchema(), examples=with_model(CHAT, CHAT_MODEL))
@blueprint.response(200, ChatAnswerSchema)
def chat(body: tuple[str, ChatRequest]) -> Response:
    """Go on with a conversation."""
    return answer("chat", *body)


@blueprint.route("/completions", methods=["POST"])
@blueprint.arguments(OpenAICompletionSchema(), examples=with_model(COMPLETION, CHAT_MODEL))
@blueprint.response(200, CompletionAnswerSchema)
def completion(body: tuple[str, CompletionRequest]) -> Response:
    """Go on with a text."""
    return answer("completion", *body)


@blueprint.route("/embeddings", methods=["POST"])
@blueprint.arguments(OpenAIEmbeddingSchema(), examples=with_model(EMBEDDING, EMBEDDING_MODEL))
@blueprint.response(200, EmbeddingsSchema)
def embedding(body: tuple[str, EmbeddingRequest]) -> Response:
    """Turn texts into vectors."""
    return answer("embedding", *body)


def _entry(model: Model) -> dict[str, Any]:
    created = gateway().catalog.read_at
    return {"id": model.id, "object": "model", "created": created, "owned_by": model.provider}
