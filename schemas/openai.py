"""Requests and answers in OpenAI's own shapes: as on the customer's paths, but with the model in the body."""

from __future__ import annotations

from typing import Any

from marshmallow import Schema, ValidationError, fields, post_load, pre_load

from schemas.base.fields import StrictSchema, Text, shown
from schemas.chat import MessageSchema
from schemas.embeddings import EmbeddingRequest, EmbeddingRequestSchema
from schemas.inference import ChatRequest, ChatRequestSchema, CompletionRequest, CompletionRequestSchema
from schemas.prompts import Prompt

#: What is known of a turn.
_TURN = frozenset(MessageSchema().fields)


class OpenAIRequestSchema(StrictSchema):
    """What OpenAI's clients send besides. A null is the same as nothing."""

    model = Text(required=True)

    @pre_load
    def _without_nulls(self, data: Any, **_: Any) -> Any:
        return {name: value for name, value in data.items() if value is not None} if isinstance(data, dict) else data


class OpenAIChatSchema(OpenAIRequestSchema, ChatRequestSchema):
    """Body of a chat request. Loads to (model, request).

    OpenAI's clients keep turns with what they know of them besides; only an answer's is sent back to its provider.
    """

    @pre_load
    def _without_unknown(self, data: Any, **_: Any) -> Any:
        turns = data.get("messages") if isinstance(data, dict) else None
        return {**data, "messages": [_known(turn) for turn in turns]} if isinstance(turns, list) else data

    @post_load
    def _build(self, data: dict[str, Any], **_: Any) -> tuple[str, ChatRequest]:
        return _model_of(data), ChatRequestSchema._build(self, data)


class OpenAICompletionSchema(OpenAIRequestSchema, CompletionRequestSchema):
    """Body of a completion request. Loads to (model, request)."""

    prompt = Prompt(empty=True, required=True)

    @post_load
    def _build(self, data: dict[str, Any], **_: Any) -> tuple[str, CompletionRequest]:
        return _model_of(data), CompletionRequestSchema._build(self, data)


class OpenAIEmbeddingSchema(OpenAIRequestSchema, EmbeddingRequestSchema):
    """Body of an embedding request. Loads to (model, request)."""

    @post_load
    def _build(self, data: dict[str, Any], **_: Any) -> tuple[str, EmbeddingRequest]:
        return _model_of(data), EmbeddingRequestSchema._build(self, data)


class OpenAIModelSchema(Schema):
    """A model."""

    id = fields.String(required=True)
    object = fields.String(required=True)
    created = fields.Integer(required=True, metadata={"description": "When the catalog was read last"})
    owned_by = fields.String(required=True)


class OpenAIModelListSchema(Schema):
    """Models."""

    object = fields.String(required=True)
    data = fields.List(fields.Nested(OpenAIModelSchema), required=True)


class OpenAIErrorDetailSchema(Schema):
    """What went wrong."""

    message = fields.String(required=True)
    type = fields.String(required=True)
    param = fields.String(required=True, allow_none=True)
    code = fields.String(required=True)


class OpenAIErrorSchema(Schema):
    """Every error below /v1."""

    error = fields.Nested(OpenAIErrorDetailSchema, required=True)


def _known(turn: Any) -> Any:
    if not isinstance(turn, dict) or turn.get("role") == "assistant":
        return turn
    return {name: value for name, value in turn.items() if name in _TURN}


def _model_of(data: dict[str, Any]) -> str:
    model = str(data.pop("model"))
    if not model:
        raise ValidationError(f"Got {shown(model)}; must be the id of a model.", "model")
    return model
