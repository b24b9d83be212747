"""The queues of the models as operators and autoscalers see them."""

from __future__ import annotations

from marshmallow import Schema, fields, validate

from schemas.base.fields import StrictSchema, Text


class QueueQuerySchema(StrictSchema):
    """Which queue."""

    model = Text(
        load_default=None, validate=validate.Length(1, 200), metadata={"description": "Of one model; else all"}
    )


class WaitingSchema(Schema):
    """Jobs that wait."""

    waiting = fields.Integer(required=True)
    oldest_wait_s = fields.Float(
        required=True, metadata={"description": "Since when the one that was made first waits; 0 if none waits"}
    )
    first = fields.List(
        fields.String(), required=True, metadata={"description": "Ids of those that were made first, at most five"}
    )
    eta_s = fields.Float(
        required=True,
        allow_none=True,
        metadata={"description": "When a request that comes now would begin, in seconds; null: that is not known"},
    )


class ModelQueueSchema(Schema):
    """The queue of one model, and what serves it."""

    id = fields.String(required=True)
    interactive = fields.Nested(WaitingSchema, required=True)
    background = fields.Nested(WaitingSchema, required=True)
    replicas = fields.Integer(required=True, metadata={"description": "Active ones; remote models have none"})
    slots = fields.Integer(required=True, metadata={"description": "Sequences that they run at once"})
    running = fields.Integer(required=True, metadata={"description": "Slots in use"})
    demand = fields.Integer(
        required=True, metadata={"description": "Slots in use, and interactive jobs that wait for one"}
    )


class QueueListSchema(Schema):
    """The queues of all models."""

    models = fields.List(fields.Nested(ModelQueueSchema), required=True)
