"""Models as clients see them."""

from __future__ import annotations

from marshmallow import Schema, fields


class DeploymentSchema(Schema):
    """Where a local model runs."""

    type = fields.String()
    hardware = fields.String()
    quantization = fields.String()


class ModelSchema(Schema):
    """One entry of the model list."""

    id = fields.String(required=True)
    name = fields.String(required=True)
    description = fields.String(required=True)
    version = fields.String(required=True)
    capabilities = fields.List(fields.String(), required=True)
    provider = fields.String(required=True)
    status = fields.String(required=True)
    deployment = fields.Nested(DeploymentSchema)


class ModelDetailSchema(ModelSchema):
    """A model with its parameter ranges, price and statistics."""

    parameters = fields.Dict(required=True)
    pricing = fields.Dict(required=True)
    stats = fields.Dict(required=True)


class ModelListSchema(Schema):
    """All models of the catalog."""

    models = fields.List(fields.Nested(ModelSchema), required=True)
