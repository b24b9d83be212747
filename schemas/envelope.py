"""The customer's envelope around every answer, success and error alike."""

from __future__ import annotations

from functools import cache

from marshmallow import Schema, fields


class EnvelopeSchema(Schema):
    """What every answer on the customer's paths begins with."""

    code = fields.Integer(required=True, metadata={"description": "Equal to the HTTP status"})
    message = fields.String(required=True)
    request_id = fields.String(required=True)


class ErrorDataSchema(Schema):
    """What a program may want to know of an error."""

    class Meta:
        unknown = "include"

    reason = fields.String(required=True, metadata={"description": "A word of the table in docs/errors.md"})
    errors = fields.Dict(
        fields.String(),
        fields.List(fields.String()),
        metadata={"description": "What is wrong with each field, by its path: `messages[0].role`"},
    )


class ErrorSchema(EnvelopeSchema):
    """Every error on the customer's paths."""

    data = fields.Nested(ErrorDataSchema, required=True)


@cache
def enveloped(inner: type[Schema]) -> type[Schema]:
    """The schema of an envelope whose `data` is of the inner schema."""
    name = inner.__name__.removesuffix("Schema") + "EnvelopeSchema"
    return type(name, (EnvelopeSchema,), {"data": fields.Nested(inner, required=True)})
