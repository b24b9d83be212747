"""Requests and answers in OpenAI's own shapes: as on the customer's paths, but with the model in the body."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from marshmallow import Schema, ValidationError, fields, post_load

from schemas.base.fields import Integer, StrictSchema, Text, shown
from schemas.embeddings import EmbeddingRequest, EmbeddingRequestSchema
from schemas.inference import (
    ChatRequest,
    ChatRequestSchema,
    CompletionRequest,
    CompletionRequestSchema,
    JobRequest,
    StreamOptionsSchema,
)
from schemas.lenient.wording import in_old_words, reworded
from schemas.prompts import Prompt

#: Answers to one request, as OpenAI allows.
MAX_CHOICES = 128
_STREAM_OPTIONS = frozenset(StreamOptionsSchema().fields)

Request = TypeVar("Request", bound=JobRequest)


@dataclass(frozen=True)
class Asked(Generic[Request]):
    """What a client asks for."""

    model: str
    request: Request
    #: Inner fields that nobody will read, such as `messages.id`.
    dropped: tuple[str, ...] = ()
    #: The answer is to have `function_call` in place of `tool_calls`.
    old_calls: bool = False


class Seed(Integer):
    """Any integer of 64 bits; engines get it modulo 2^32."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(-(2**63), 2**63 - 1, **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> int:
        return super()._deserialize(value, attr, data, **kwargs) % 2**32


class OpenAIRequestSchema(StrictSchema):
    """What OpenAI's clients send besides. A null is the same as nothing, and unknown fields are put aside."""

    class Meta:
        #: For the OpenAPI document; `load` leaves none.
        unknown = "include"

    model = Text(required=True)

    def load(self, data: Any, **kwargs: Any) -> Any:
        """The body as `Asked`. Raises: ValidationError."""
        if not isinstance(data, Mapping):
            return super().load(data, **kwargs)
        said = reworded(data, self.fields.keys(), _STREAM_OPTIONS)
        try:
            model, request = super().load(said.body, **kwargs)
        except ValidationError as error:
            if said.old_calls:
                raise ValidationError(in_old_words(error.messages)) from error
            raise
        return Asked(model, replace(request, passed_on=said.passed_on or None), tuple(said.dropped), said.old_calls)


class OpenAITextSchema(OpenAIRequestSchema):
    """What chat and completion share. Evaluations ask for no answer: for the prompt alone."""

    max_tokens = Integer(0, 2**31 - 1)
    n = Integer(1, MAX_CHOICES)
    seed: Integer = Seed()


class OpenAIChatSchema(OpenAITextSchema, ChatRequestSchema):
    """Body of a chat request."""

    @post_load
    def _build(self, data: dict[str, Any], **_: Any) -> tuple[str, ChatRequest]:
        return _model_of(data), ChatRequestSchema._build(self, data)


class OpenAICompletionSchema(OpenAITextSchema, CompletionRequestSchema):
    """Body of a completion request."""

    prompt = Prompt(empty=True, required=True)

    @post_load
    def _build(self, data: dict[str, Any], **_: Any) -> tuple[str, CompletionRequest]:
        return _model_of(data), CompletionRequestSchema._build(self, data)


class OpenAIEmbeddingSchema(OpenAIRequestSchema, EmbeddingRequestSchema):
    """Body of an embedding request."""

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


def _model_of(data: dict[str, Any]) -> str:
    model = str(data.pop("model"))
    if not model:
        raise ValidationError(f"Got {shown(model)}; must be the id of a model.", "model")
    return model
