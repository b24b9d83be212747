"""The customer's envelope around every answer, success and error alike."""

from __future__ import annotations

import functools

from marshmallow import Schema, fields


class EnvelopeSchema(Schema):
    """What every answer on the customer's paths begins with."""

    code = fields.Integer(required=True, metadata={"description": "Equal to the HTTP status"})
    message = fields.String(required=True)
    request_id = fields.String(required=True)


@functools.cache
def enveloped(inner: type[Schema]) -> type[Schema]:
    """The schema of an envelope whose `data` is of the inner schema."""
    name = inner.__name__.removesuffix("Schema") + "EnvelopeSchema"
    return type(name, (EnvelopeSchema,), {"data": fields.Nested(inner, required=True)})
