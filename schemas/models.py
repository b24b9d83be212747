"""Models as clients see them."""

from __future__ import annotations

from marshmallow import Schema, fields, validate

from schemas.base.fields import StrictSchema, Text
from schemas.catalog import CAPABILITIES

#: How a model can be, in one word; README says what each means.
MODEL_STATUSES = (
    *("active", "loading", "asleep", "available", "inactive", "failed", "unloading", "no_weights"),
    *("degraded", "unavailable", "no_credentials"),
)


class ModelsQuerySchema(StrictSchema):
    """Query of the list."""

    requested = Text(
        load_default="", metadata={"description": "Those that were added by this name, for keys that may deploy"}
    )


class DeploymentSchema(Schema):
    """Where a local model runs."""

    type = fields.String(required=True)
    hardware = fields.String(required=True, metadata={"description": "`none` while no replica lives"})
    quantization = fields.String(required=True)


class ModelSchema(Schema):
    """One entry of the model list. Remote models have no deployment."""

    id = fields.String(required=True)
    name = fields.String(required=True)
    description = fields.String(required=True)
    version = fields.String(required=True)
    capabilities = fields.List(fields.String(validate=validate.OneOf(CAPABILITIES)), required=True)
    provider = fields.String(required=True)
    status = fields.String(required=True, validate=validate.OneOf(MODEL_STATUSES))
    deployment = fields.Nested(DeploymentSchema)


class LimitsSchema(Schema):
    """What a number may be, and its value when the request leaves it out."""

    min = fields.Float(required=True)
    max = fields.Float(required=True)
    default = fields.Float(required=True)


class ParametersSchema(Schema):
    """What a request may ask of a model. A range that is left out has the API's own limits."""

    max_tokens = fields.Integer(required=True, metadata={"description": "Of one answer; 0: not known"})
    context_length = fields.Integer(
        required=True, metadata={"description": "Tokens of prompt and answer; 0: its provider's, or not read yet"}
    )
    temperature = fields.Nested(LimitsSchema)
    top_p = fields.Nested(LimitsSchema)
    top_k = fields.Nested(LimitsSchema)
    presence_penalty = fields.Nested(LimitsSchema)
    frequency_penalty = fields.Nested(LimitsSchema)
    repetition_penalty = fields.Nested(LimitsSchema)


class PriceSchema(Schema):
    """What a thousand tokens cost."""

    input_per_1k_tokens = fields.Float(required=True)
    output_per_1k_tokens = fields.Float(required=True)
    currency = fields.String(required=True, metadata={"description": "ISO 4217"})


class StatsSchema(Schema):
    """Measured over the last `window_s` seconds."""

    average_latency_ms = fields.Integer(
        required=True, allow_none=True, metadata={"description": "From request to end, queue included"}
    )
    availability = fields.Float(
        required=True,
        metadata={"description": "Answered share of the requests; without any, 1 if the next one is served"},
    )
    requests = fields.Integer(required=True)
    window_s = fields.Integer(required=True)


class CatalogEntrySchema(Schema):
    """What was decided about a model, and where; for keys with the scope deploy."""

    origin = fields.String(required=True, metadata={"description": "The file, the default models or the API"})
    source = fields.String(required=True)
    engine = fields.String(required=True)
    quantization = fields.String(required=True)
    tool_format = fields.String(required=True)
    reasoning_format = fields.String(required=True)
    options = fields.Dict(required=True)
    facts = fields.Dict(required=True, metadata={"description": "What was read from its files when it was added"})
    requested = fields.String(required=True, metadata={"description": "The name that it was asked for by"})
    added_at = fields.String(required=True, allow_none=True)


class ModelDetailSchema(ModelSchema):
    """A model with its parameter ranges, price and statistics."""

    entry = fields.Nested(CatalogEntrySchema)

    parameters = fields.Nested(ParametersSchema, required=True)
    pricing = fields.Nested(PriceSchema, required=True)
    stats = fields.Nested(StatsSchema, required=True)


class ModelListSchema(Schema):
    """All models of the catalog."""

    models = fields.List(fields.Nested(ModelSchema), required=True)


class LocalDeploymentSchema(Schema):
    """One replica of a resident model."""

    node_id = fields.String(required=True)
    hardware = fields.String(required=True)
    memory_usage = fields.String(required=True)
    quantization = fields.String(required=True)
    loaded_at = fields.String(required=True, metadata={"description": "ISO 8601; empty while it loads"})
    health = fields.String(required=True)
    status = fields.String(required=True, metadata={"description": "loading, active, unloading or failed"})
    replica_id = fields.String(required=True)
    deployment_id = fields.String(required=True, allow_none=True)
    device = fields.String(required=True)
    engine = fields.String(required=True)
    memory_bytes = fields.Integer(required=True, metadata={"description": "Resident memory of its processes"})
    planned_bytes = fields.Integer(required=True, allow_none=True)
    sequences = fields.Integer(required=True, metadata={"description": "Running now"})
    kv_used_tokens = fields.Integer(required=True, metadata={"description": "Taken of the KV cache; 0: not told"})
    engine_steps = fields.Integer(required=True)
    tokens_per_second = fields.Float(required=True)
    effective_config = fields.Dict(required=True, metadata={"description": "Options as the engine has them"})
    deployment_config = fields.Dict(
        required=True,
        allow_none=True,
        metadata={"description": "Options for which a deployment would have to ask; null: it is to end"},
    )


class PerformanceSchema(Schema):
    """Measured by the replicas, and over the last hour."""

    tokens_per_second = fields.Float(required=True)
    avg_latency_ms = fields.Integer(required=True, allow_none=True)
    max_batch_size = fields.Integer(required=True)


class LocalModelSchema(Schema):
    """A resident model; `deployment` is its oldest healthy replica."""

    id = fields.String(required=True)
    name = fields.String(required=True)
    version = fields.String(required=True)
    status = fields.String(required=True)
    deployment = fields.Nested(LocalDeploymentSchema, required=True)
    performance = fields.Nested(PerformanceSchema, required=True)
    replicas = fields.List(fields.Nested(LocalDeploymentSchema), required=True)


class LocalModelListSchema(Schema):
    """All models that have a replica."""

    models = fields.List(fields.Nested(LocalModelSchema), required=True)
