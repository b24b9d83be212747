"""How the gateway is, for load balancers."""

from __future__ import annotations

from marshmallow import Schema, fields


class LiveSchema(Schema):
    """The process answers."""

    status = fields.String(required=True)


class RootSchema(Schema):
    """What this server is, and the paths where to go on."""

    name = fields.String(required=True)
    version = fields.String(required=True)
    docs = fields.String(required=True)
    openapi = fields.String(required=True)
    openai = fields.String(required=True, metadata={"description": "The base URL of OpenAI's clients"})
    ready = fields.String(required=True)


class ReadyQuerySchema(Schema):
    """What must be ready."""

    model = fields.String(metadata={"description": "A model that must take requests, too"})


class ReadySchema(LiveSchema):
    """Each part, and whether requests can be served."""

    redis = fields.String(
        required=True,
        metadata={
            "description": "`lost`: it answers, but its data is gone; `evicting`: by its settings it may drop jobs"
        },
    )
    durability = fields.String(required=True, metadata={"description": "What it does to keep jobs, for people"})
    keeper = fields.String(required=True)
    keeper_round_s = fields.Float(required=True, metadata={"description": "How long its last round took"})
    keeper_trusted = fields.Boolean(
        required=True, metadata={"description": "It recovers what is lost; not at once after an outage of Redis"}
    )
    replicas = fields.Dict(
        fields.String(),
        fields.String(),
        required=True,
        metadata={
            "description": "`healthy`, `asleep` (the next request wakes it), `unloading`, or why it does not serve"
        },
    )
    providers = fields.Dict(
        fields.String(),
        fields.String(),
        required=True,
        metadata={"description": "Those that are asked: `healthy`, `degraded` (tried again) or `unavailable`"},
    )
    catalog = fields.String(required=True, metadata={"description": "`stale` while the catalog has mistakes"})
    catalog_problems = fields.List(
        fields.String(), required=True, metadata={"description": "Source, line, column and field of each mistake"}
    )
    model = fields.String(metadata={"description": "With `?model=`: the model's status, as in `GET /models`"})
