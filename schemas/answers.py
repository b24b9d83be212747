"""What a client gets of a model that answers: the whole, or the chunks of a stream.

Only for the OpenAPI document: `gateway/jobs/journal.py` makes them.
"""

from __future__ import annotations

from marshmallow import INCLUDE, Schema, fields, validate

from schemas.embeddings import EmbeddingUsageSchema


class PromptTokensDetailsSchema(Schema):
    """What is known of the prompt's tokens."""

    cached_tokens = fields.Integer(metadata={"description": "Those that the engine, or a provider, had in its cache"})


class CompletionTokensDetailsSchema(Schema):
    """What is known of the answer's tokens."""

    reasoning_tokens = fields.Integer(metadata={"description": "Those that nobody sees"})


class UsageSchema(Schema):
    """Tokens, counted by the model's own tokenizer, or by its provider."""

    prompt_tokens = fields.Integer(required=True)
    completion_tokens = fields.Integer()
    total_tokens = fields.Integer(required=True)
    prompt_tokens_details = fields.Nested(PromptTokensDetailsSchema)
    completion_tokens_details = fields.Nested(CompletionTokensDetailsSchema)


class AnswerMessageSchema(Schema):
    """What the model said, and whatever else its provider has put there: `reasoning_content`, `refusal` and others."""

    class Meta:
        unknown = INCLUDE

    role = fields.String(required=True)
    content = fields.String(required=True, allow_none=True)
    tool_calls = fields.List(fields.Dict())


class ChoiceSchema(Schema):
    """What chat and completion choices share."""

    index = fields.Integer(required=True)
    finish_reason = fields.String(
        required=True, allow_none=True, metadata={"description": "stop, length, tool_calls or cancelled"}
    )
    logprobs = fields.Dict(allow_none=True)


class ChatChoiceSchema(ChoiceSchema):
    """One answer of a chat."""

    message = fields.Nested(AnswerMessageSchema, required=True)


class CompletionChoiceSchema(ChoiceSchema):
    """One answer of a completion."""

    text = fields.String(required=True)


class AnswerSchema(Schema):
    """What full answers of chats and completions share."""

    id = fields.String(required=True)
    object = fields.String(required=True)
    created = fields.Integer(required=True)
    model = fields.String(required=True)
    usage = fields.Nested(UsageSchema, required=True)
    served_by = fields.List(
        fields.String(), metadata={"description": "Which models worked on it, if not the one that was asked alone"}
    )


class ChatAnswerSchema(AnswerSchema):
    """A full answer of a chat."""

    choices = fields.List(fields.Nested(ChatChoiceSchema), required=True)


class CompletionAnswerSchema(AnswerSchema):
    """A full answer of a completion."""

    choices = fields.List(fields.Nested(CompletionChoiceSchema), required=True)


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
    units_done = fields.Integer(metadata={"description": "What the stage has of `units_total`: bytes, tensors, steps"})
    units_total = fields.Integer()
    level = fields.String()
    message = fields.String()
    facts = fields.Dict(metadata={"description": "Of the replica: memory as planned and measured, its status"})
    reason = fields.String(metadata={"description": "Why it was cancelled"})
