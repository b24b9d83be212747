"""The chunk objects of a stream. Only for the OpenAPI document: `gateway/jobs/journal.py` makes them."""

from __future__ import annotations

from marshmallow import INCLUDE, Schema, fields, validate

from schemas.embeddings import EmbeddingUsageSchema
from schemas.inference import ChoiceSchema, UsageSchema


class RewoundSchema(Schema):
    """The text that stands now, in place of what was sent: the job store has lost its last moments."""

    seq = fields.Integer(required=True)
    text = fields.Dict(fields.String(), fields.String(), metadata={"description": "By the index of the choice"})


class SnapshotSchema(Schema):
    """The whole text, in place of the part that was sent: the job ended a while ago, and nothing is lost."""

    seq = fields.Integer(required=True)
    text = fields.Dict(fields.String(), fields.String(), metadata={"description": "By the index of the choice"})


class ChunkSchema(Schema):
    """What the chunks of chats and completions share."""

    id = fields.String(required=True)
    object = fields.String(required=True)
    created = fields.Integer(required=True)
    model = fields.String(required=True)
    usage = fields.Nested(
        UsageSchema, allow_none=True, metadata={"description": "At the end, with `stream_options.include_usage`"}
    )
    rewound = fields.Nested(RewoundSchema)
    snapshot = fields.Nested(SnapshotSchema)


class DeltaSchema(Schema):
    """What this chunk adds to a message: the role first, then text, calls, and what a provider says beside."""

    class Meta:
        unknown = INCLUDE

    role = fields.String()
    content = fields.String()
    tool_calls = fields.List(fields.Dict())


class ChatChunkChoiceSchema(ChoiceSchema):
    """A piece of one answer of a chat."""

    delta = fields.Nested(DeltaSchema, required=True)


class CompletionChunkChoiceSchema(ChoiceSchema):
    """A piece of one answer of a completion."""

    text = fields.String(required=True)


class ChatChunkSchema(ChunkSchema):
    """A chunk of a chat."""

    choices = fields.List(fields.Nested(ChatChunkChoiceSchema), required=True)


class CompletionChunkSchema(ChunkSchema):
    """A chunk of a completion."""

    choices = fields.List(fields.Nested(CompletionChunkChoiceSchema), required=True)


class EmbeddingProgressSchema(Schema):
    """Which inputs of an embedding job have their vectors now. The vectors are in the job's result."""

    id = fields.String(required=True)
    object = fields.String(required=True)
    created = fields.Integer(required=True)
    model = fields.String(required=True)
    done = fields.List(fields.Integer(), required=True)
    usage = fields.Nested(EmbeddingUsageSchema, metadata={"description": "At the end"})
    rewound = fields.Nested(RewoundSchema)


class DeploymentEventSchema(Schema):
    """What happened to a deployment; `event` says which of the other fields are there."""

    deployment_id = fields.String(required=True)
    model_id = fields.String(required=True)
    event = fields.String(required=True, validate=validate.OneOf(("stage", "log", "facts", "completed", "cancelled")))
    timestamp = fields.String(metadata={"description": "ISO 8601"})
    replica = fields.String(allow_none=True, metadata={"description": "Null: all of them"})
    stage = fields.String()
    status = fields.String()
    progress = fields.Integer(metadata={"description": "0 to 100"})
    level = fields.String()
    message = fields.String()
    facts = fields.Dict(metadata={"description": "Of the replica: memory as planned and measured, its status"})
    reason = fields.String(metadata={"description": "Why it was cancelled"})
