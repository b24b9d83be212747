"""What a client may ask of an embedding model, and what it gets back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from marshmallow import Schema, ValidationError, fields, post_load, validate

from schemas.base.fields import Boolean, Integer, StrictSchema, Text, as_text, shown
from schemas.inference import JobRequest, JobRequestSchema
from schemas.prompts import at_index, token_ids

#: Inputs in one request.
MAX_INPUTS = 2048
ENCODINGS = ("float", "base64")

Inputs = str | list[str] | list[int] | list[list[int]]


@dataclass(frozen=True, kw_only=True)
class EmbeddingRequest(JobRequest):
    """Texts to turn into vectors. None = not given: the model's own size."""

    input: Inputs
    encoding_format: str = "float"
    dimensions: int | None = None
    #: Cut inputs that are longer than the model takes.
    truncate: bool = False


class Input(fields.Field[Inputs]):
    """A text, a list of texts, the token ids of one text, or a list of such lists."""

    _ALLOWED = f"a text, up to {MAX_INPUTS} texts, a list of token ids, or up to {MAX_INPUTS} lists of token ids"

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Inputs:
        if not value or not isinstance(value, str | list):
            raise ValidationError(f"Got {shown(value)}; must be {self._ALLOWED}.")
        if isinstance(value, str):
            return _text(value)
        if type(value[0]) is int:
            return token_ids(value)
        if len(value) > MAX_INPUTS:
            raise ValidationError(f"Got {len(value)} inputs; at most {MAX_INPUTS} are allowed. Send several requests.")
        read: Callable[[Any], Any] = token_ids if isinstance(value[0], list) else _text
        return [at_index(index, read, item) for index, item in enumerate(value)]


def _text(value: Any) -> str:
    if not as_text(value):
        raise ValidationError("Must not be empty.")
    return str(value)


class EmbeddingRequestSchema(JobRequestSchema):
    """Body of an embedding request."""

    input = Input(
        required=True,
        metadata={
            "oneOf": [
                {"type": "string"},
                {"type": "array", "items": {"type": "string"}},
                {"type": "array", "items": {"type": "integer"}},
                {"type": "array", "items": {"type": "array", "items": {"type": "integer"}}},
            ]
        },
    )
    encoding_format = Text(
        load_default="float",
        validate=validate.OneOf(ENCODINGS, error=f"Got {{input}}; allowed: {', '.join(ENCODINGS)}."),
    )
    dimensions = Integer(1, 2**31 - 1)
    truncate = Boolean(load_default=False)

    @post_load
    def _build(self, data: dict[str, Any], **_: Any) -> EmbeddingRequest:
        return EmbeddingRequest(**data)


class EmbeddingSchema(StrictSchema):
    """The vector of one input."""

    object = fields.Constant("embedding")
    embedding = fields.Raw(
        required=True, metadata={"oneOf": [{"type": "array", "items": {"type": "number"}}, {"type": "string"}]}
    )
    index = fields.Integer(required=True)


class EmbeddingUsageSchema(Schema):
    """Tokens, counted by the model's own tokenizer, with its special tokens."""

    prompt_tokens = fields.Integer(required=True)
    total_tokens = fields.Integer(required=True)


class EmbeddingsSchema(Schema):
    """The vectors, in the order of the inputs."""

    object = fields.Constant("list")
    data = fields.List(fields.Nested(EmbeddingSchema), required=True)
    model = fields.String(required=True)
    usage = fields.Nested(EmbeddingUsageSchema, required=True)
