"""The OpenAI-compatible face: point an OpenAI client's base URL at `/v1`. The same services as everywhere else."""

from __future__ import annotations

from typing import Any

from flask import Response, g, request
from flask_smorest import Blueprint

from gateway.inference.passed_on import unused_fields
from gateway.models.entry import Model
from gateway.models.protocols import without
from schemas.answers import ChatAnswerSchema, CompletionAnswerSchema
from schemas.embeddings import EmbeddingRequest, EmbeddingsSchema
from schemas.examples import CHAT, CHAT_MODEL, COMPLETION, EMBEDDING, EMBEDDING_MODEL, with_model
from schemas.inference import ChatRequest, CompletionRequest
from schemas.lenient.known_fields import require_known
from schemas.lenient.openai import (
    Asked,
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
from web.rest import inference

#: The field with the prompt, by the kind of job.
_PROMPTS = {"chat": "messages", "completion": "prompt", "embedding": "input"}

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
    found.inference.router.everything()
    usable = [model for model in found.catalog.seen_by(key) if found.inference.router.takes(model)]
    return success({"object": "list", "data": [_entry(model) for model in usable]})


@blueprint.route("/models/<model:model_id>")
@blueprint.response(200, OpenAIModelSchema)
def model(model_id: str) -> Response:
    """One model of the catalog that the key may use, whatever its state."""
    key, catalog = caller(), gateway().catalog
    return success(_entry(catalog.get_visible(key, model_id)))


@blueprint.route("/chat/completions", methods=["POST"])
@blueprint.arguments(OpenAIChatSchema(), examples=with_model(CHAT, CHAT_MODEL))
@blueprint.response(200, ChatAnswerSchema)
def chat(asked: Asked[ChatRequest]) -> Response:
    """Go on with a conversation."""
    return _answer("chat", asked)


@blueprint.route("/completions", methods=["POST"])
@blueprint.arguments(OpenAICompletionSchema(), examples=with_model(COMPLETION, CHAT_MODEL))
@blueprint.response(200, CompletionAnswerSchema)
def completion(asked: Asked[CompletionRequest]) -> Response:
    """Go on with a text."""
    return _answer("completion", asked)


@blueprint.route("/embeddings", methods=["POST"])
@blueprint.arguments(OpenAIEmbeddingSchema(), examples=with_model(EMBEDDING, EMBEDDING_MODEL))
@blueprint.response(200, EmbeddingsSchema)
def embedding(asked: Asked[EmbeddingRequest]) -> Response:
    """Turn texts into vectors."""
    return _answer("embedding", asked)


def _answer(kind: str, asked: Asked[Any]) -> Response:
    """Raises: ValidationError if it has fields that are to be refused; as `inference.answer`."""
    if gateway().settings.openai_unknown_fields == "refuse":
        require_known(kind, asked.request.passed_on or ())
    model, body = gateway().catalog.get_for(caller(), asked.model), asked.request.given()
    hints = [] if model.local else unused_fields(model, body)
    g.dropped = (*hints, *asked.dropped)
    g.dialect = OpenAI(old_calls=asked.old_calls, prompt=_PROMPTS[kind])
    return inference.answer(kind, asked.model, without(body, hints))


def _entry(model: Model) -> dict[str, Any]:
    created = gateway().catalog.read_at
    return {"id": model.id, "object": "model", "created": created, "owned_by": model.provider}
